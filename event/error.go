package event

import (
	"errors"
	"fmt"
)

// Code is the kind of an [Error], for programs.
type Code string

// The codes of [Error]. [Error.HTTPStatus] has the status of each.
const (
	CodeInvalid          Code = "invalid"           // 400: the request is invalid
	CodeUnknownFilter    Code = "unknown_filter"    // 400: a filter names a field that there is not, or cannot be read
	CodeUnknownParameter Code = "unknown_parameter" // 400: the request has a parameter that there is not
	CodeUnauthorized     Code = "unauthorized"      // 401: no key, or a wrong one
	CodeForbidden        Code = "forbidden"         // 403: the key does not allow it
	CodeNotFound         Code = "not_found"         // 404
	CodeConflict         Code = "conflict"          // 409
	CodeSlow             Code = "slow"              // 408: the request body was sent too slowly
	CodeTooLarge         Code = "too_large"         // 413
	CodeUnsupported      Code = "unsupported"       // 415
	CodeRateLimited      Code = "rate_limited"      // 429
	CodeCanceled         Code = "canceled"          // 499: the caller disconnected
	CodeInternal         Code = "internal"          // 500
	CodeUpstream         Code = "upstream"          // 502: a request to a provider or PostHog failed
	CodeUnavailable      Code = "unavailable"       // 503: try again later
	CodeTimeout          Code = "timeout"           // 504: a provider or PostHog took too long
	CodeFull             Code = "journal_full"      // 507: the journal's size limit is reached
)

// Error is a user-facing error. Message describes it and Hint suggests a fix;
// neither contains a key, a prompt or a response. Err is the cause: it is
// logged, and never part of an HTTP response.
type Error struct {
	Code    Code   // the kind of error, for programs
	Message string // the error, for users
	Hint    string // the fix; "" if there is none
	Err     error  // the cause, for logs; nil if there is none
}

func (e *Error) Error() string {
	s := e.Message
	if e.Err != nil {
		s = fmt.Sprintf("%s: %v", s, e.Err)
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// HTTPStatus returns the status code of the error's code. No other code maps
// them.
func (e *Error) HTTPStatus() int {
	switch e.Code {
	case CodeInvalid, CodeUnknownFilter, CodeUnknownParameter:
		return 400
	case CodeUnauthorized:
		return 401
	case CodeForbidden:
		return 403
	case CodeNotFound:
		return 404
	case CodeConflict:
		return 409
	case CodeSlow:
		return 408
	case CodeTooLarge:
		return 413
	case CodeUnsupported:
		return 415
	case CodeRateLimited:
		return 429
	case CodeCanceled:
		return 499
	case CodeUpstream:
		return 502
	case CodeUnavailable:
		return 503
	case CodeTimeout:
		return 504
	case CodeFull:
		return 507
	}
	return 500
}

// NewError returns a user-facing error. err may be nil.
func NewError(code Code, message, hint string, err error) *Error {
	return &Error{Code: code, Message: message, Hint: hint, Err: err}
}

// Invalid returns an [*Error] of code [CodeInvalid].
func Invalid(message, hint string) *Error {
	return &Error{Code: CodeInvalid, Message: message, Hint: hint}
}

// AsError returns the [*Error] in err's chain. It wraps any other error as
// [CodeInternal] with a message that reveals nothing of it. It returns nil for
// nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeInternal, Message: "internal error in hedgerow", Hint: "see hedgerow's log for the cause", Err: err}
}
