package main

import (
	"errors"

	"github.com/hedgerow/hedgerow/event"
)

// exitError ends the process with a code. The codes are part of the public
// surface: docs/configuration.md lists them.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// Exit codes.
const (
	exitFailure = 1 // anything else
	exitConfig  = 2 // a wrong flag, environment variable or configuration key
	exitListen  = 3 // the address cannot be listened on
	exitData    = 4 // the data folder cannot be used: not writable, corrupt, wrong secret key
	exitInUse   = 5 // another hedgerow has the data folder
)

func configError(message, hint string, err error) error {
	return &exitError{exitConfig, event.NewError(event.CodeInvalid, message, hint, err)}
}

// dataError gives an error of the data folder its exit code, where it must end
// the process: the folder is another process's, or can never be used. Other
// errors can pass, and stay as they are.
func dataError(err error) error {
	if err == nil {
		return nil
	}
	if exit := (*exitError)(nil); errors.As(err, &exit) {
		return err
	}
	switch event.AsError(err).Code {
	case event.CodeConflict:
		return &exitError{exitInUse, err}
	case event.CodeInvalid:
		return &exitError{exitData, err}
	}
	return err
}
