package httpbody

import (
	"errors"
	"fmt"
	"net/http"
)

// Refusal is why a request, or one event of it, is rejected. Its message is for the
// client and never quotes the request.
type Refusal struct {
	Status  int    // HTTP status of the response
	Reason  string // one of the constants, for metrics and logs
	Message string
}

func (r *Refusal) Error() string { return r.Message }

// Refuse returns a refusal.
func Refuse(status int, reason, format string, args ...any) *Refusal {
	return &Refusal{status, reason, fmt.Sprintf(format, args...)}
}

// TooLarge rejects what exceeds a limit in bytes.
func TooLarge(what string, limit int64) *Refusal {
	return Refuse(http.StatusRequestEntityTooLarge, ReasonTooLarge, "maximum event size exceeded: %s has more than %d bytes", what, limit)
}

// AsRefusal returns the refusal in err. Other errors are internal ones.
func AsRefusal(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return Refuse(http.StatusInternalServerError, ReasonUnavailable, "internal error in hedgerow")
}

// Reasons in metrics and logs.
const (
	ReasonMalformed   = "malformed"    // cannot be decoded or parsed
	ReasonInvalid     = "invalid"      // a required field is missing, or the journal rejected the event
	ReasonTooLarge    = "too_large"    // body or event
	ReasonToken       = "token"        // none, unknown, or several
	ReasonUnsupported = "unsupported"  // content type or encoding
	ReasonMethod      = "method"       //
	ReasonStalled     = "stalled"      // the body did not arrive in time
	ReasonClientGone  = "client_gone"  // the client disconnected
	ReasonMemory      = "memory"       // too many bodies at a time
	ReasonJournalFull = "journal_full" // the journal is full
	ReasonUnavailable = "unavailable"  // the journal is unavailable
)

// RetryAfter returns the seconds to wait before a retry; "" if a retry is pointless.
func (r *Refusal) RetryAfter() string {
	switch {
	case r.Reason == ReasonJournalFull:
		return "10"
	case r.Status == http.StatusServiceUnavailable, r.Status == http.StatusRequestTimeout, r.Status == http.StatusInternalServerError:
		return "1"
	}
	return ""
}
