package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// failure returns the error type of the event, and the error for the caller:
// nil if the caller has disconnected.
func failure(name string, err error, callerGone bool) (errType string, e *event.Error) {
	var ours *errCaller
	var netErr net.Error
	var dns *net.DNSError
	switch {
	case errors.As(err, &ours) && errors.Is(err, os.ErrDeadlineExceeded):
		// The caller is still connected: net/http cancels a request's context
		// on every read error.
		return event.ErrTypeClientGone, event.NewError(event.CodeSlow, "the request body arrived too slowly", "send it faster, or lower min_upload_rate", err)
	case callerGone || errors.As(err, &ours) || errors.Is(err, context.Canceled):
		return event.ErrTypeClientGone, nil
	case errors.As(err, &netErr) && netErr.Timeout() || errors.Is(err, context.DeadlineExceeded):
		return event.ErrTypeTimeout, event.NewError(event.CodeTimeout, name+" did not respond in time", "try again, or raise upstream_timeout", err)
	}
	why := "the connection failed"
	switch {
	case errors.As(err, &dns):
		why = "its host name could not be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		why = "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		why = "the connection was reset"
	}
	return event.ErrTypeUnreachable, event.NewError(event.CodeUpstream, "hedgerow could not reach "+name+": "+why, "check the network, and the provider's base URL in the configuration", err)
}

// writeError writes hedgerow's own error in the provider's format, so that the
// provider's SDK can parse it. up is nil if the path has no provider.
func writeError(w http.ResponseWriter, up *upstream, d provider.Dialect, e *event.Error) {
	status := e.HTTPStatus()
	message := "hedgerow: " + e.Message
	if e.Hint != "" {
		message += " (" + e.Hint + ")"
	}
	var v any
	switch d {
	case provider.Anthropic:
		type detail struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		}
		v = struct {
			Type  string `json:"type"`
			Error detail `json:"error"`
		}{"error", detail{anthropicErrorType(status), message}}
	case provider.Gemini:
		type detail struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
			Status  string `json:"status"`
		}
		v = struct {
			Error detail `json:"error"`
		}{detail{status, message, googleStatus(status)}}
	default:
		type detail struct {
			Message string  `json:"message"`
			Type    string  `json:"type"`
			Param   *string `json:"param"`
			Code    string  `json:"code"`
		}
		body := struct {
			Error   detail `json:"error"`
			Message string `json:"message,omitempty"` // where AWS's SDKs look for it
		}{Error: detail{message, anthropicErrorType(status), nil, string(e.Code)}}
		if up != nil && up.name == "bedrock" {
			body.Message = message
		}
		v = body
	}
	b, err := json.Marshal(v)
	if err != nil {
		b = []byte(`{}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// anthropicErrorType is Anthropic's error type for a status code
// (https://docs.anthropic.com/en/api/errors); OpenAI's clients use the status
// code itself.
func anthropicErrorType(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusGatewayTimeout:
		return "timeout_error"
	}
	if status < 500 {
		return "invalid_request_error"
	}
	return "api_error"
}

// googleStatus is the google.rpc.Code name of a status code.
func googleStatus(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "UNAUTHENTICATED"
	case http.StatusForbidden:
		return "PERMISSION_DENIED"
	case http.StatusNotFound:
		return "NOT_FOUND"
	case http.StatusTooManyRequests:
		return "RESOURCE_EXHAUSTED"
	case http.StatusGatewayTimeout:
		return "DEADLINE_EXCEEDED"
	}
	if status < 500 {
		return "INVALID_ARGUMENT"
	}
	return "UNAVAILABLE"
}
