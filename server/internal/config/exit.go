package config

import (
	"errors"

	"github.com/hedgerow/hedgerow/event"
)

// ExitError ends the process with a code. The codes are part of the public
// surface: docs/configuration.md lists them.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }
func (e *ExitError) Unwrap() error { return e.Err }

// Exit returns an [ExitError].
func Exit(code int, err error) error { return &ExitError{code, err} }

// Exit codes.
const (
	ExitFailure = 1 // anything else
	ExitConfig  = 2 // a wrong flag, environment variable or configuration key
	ExitListen  = 3 // the address cannot be listened on
	ExitData    = 4 // the data folder cannot be used: not writable, corrupt, wrong secret key
	ExitInUse   = 5 // another hedgerow has the data folder
)

// Invalid is the error of a wrong setting: exit code 2.
func Invalid(message, hint string, err error) error {
	return Exit(ExitConfig, event.NewError(event.CodeInvalid, message, hint, err))
}

// DataError adds the exit code to an error of the data folder that must end
// the process: another process uses the folder, or it can never be used. Other
// errors may be temporary and are not changed.
func DataError(err error) error {
	if err == nil {
		return nil
	}
	if exit := (*ExitError)(nil); errors.As(err, &exit) {
		return err
	}
	switch event.AsError(err).Code {
	case event.CodeConflict:
		return Exit(ExitInUse, err)
	case event.CodeInvalid:
		return Exit(ExitData, err)
	}
	return err
}
