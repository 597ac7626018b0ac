package httpbody

import (
	"errors"
	"fmt"
	"net/http"
)

// Refusal is why a request, or one event of it, is not taken. Its message is for
// the client, and never quotes what was sent.
type Refusal struct {
	Status  int    // of the answer, by HTTP
	Reason  string // for metrics and the log: one of the constants
	Message string
}

func (r *Refusal) Error() string { return r.Message }

// Refuse makes a refusal.
func Refuse(status int, reason, format string, args ...any) *Refusal {
	return &Refusal{status, reason, fmt.Sprintf(format, args...)}
}

// TooLarge refuses what has more bytes than may be.
func TooLarge(what string, limit int64) *Refusal {
	return Refuse(http.StatusRequestEntityTooLarge, ReasonTooLarge, "maximum event size exceeded: %s has more than %d bytes", what, limit)
}

// AsRefusal returns the refusal in err. Any other error is hedgerow's own trouble.
func AsRefusal(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return Refuse(http.StatusInternalServerError, ReasonUnavailable, "something went wrong inside hedgerow")
}

// Reasons, as metrics and the log name them.
const (
	ReasonMalformed   = "malformed"    // cannot be decoded or parsed
	ReasonInvalid     = "invalid"      // an event lacks what it must have, or the journal will not have it
	ReasonTooLarge    = "too_large"    // body or event
	ReasonToken       = "token"        // none, unknown, or several
	ReasonUnsupported = "unsupported"  // content type or encoding
	ReasonMethod      = "method"       //
	ReasonStalled     = "stalled"      // the body did not arrive in time
	ReasonClientGone  = "client_gone"  // the client hung up before the end
	ReasonMemory      = "memory"       // too many bodies at a time
	ReasonJournalFull = "journal_full" // the journal's bound is reached
	ReasonUnavailable = "unavailable"  // the journal does not answer
)

// RetryAfter is the wait, in seconds, that goes with a refusal that is worth
// another try; "" for the others.
func (r *Refusal) RetryAfter() string {
	switch {
	case r.Reason == ReasonJournalFull:
		return "10"
	case r.Status == http.StatusServiceUnavailable, r.Status == http.StatusRequestTimeout, r.Status == http.StatusInternalServerError:
		return "1"
	}
	return ""
}
