package provider_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// TestTransportCode has connections that really fail.
func TestTransportCode(t *testing.T) {
	ask := func(url string, c *http.Client) error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	secure.Config.ErrorLog = nil
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hangs.Close()
	breaks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
	}))
	defer breaks.Close()
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"refused", ask("http://"+closed, http.DefaultClient), "ECONNREFUSED"},
		{"an unknown certificate authority", ask(secure.URL, http.DefaultClient), "ERR_TLS"},
		{"no response", ask(hangs.URL, &http.Client{Timeout: 50 * time.Millisecond}), "ETIMEDOUT"},
		{"truncated response", ask(breaks.URL, http.DefaultClient), "ECONNRESET"},
		{"no such host", &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}, "ENOTFOUND"},
		{"canceled by the caller", fmt.Errorf("call: %w", context.Canceled), ""},
		{"anything else", errors.New("boom"), ""},
		{"none", nil, ""},
	} {
		if got := provider.TransportCode(tt.err); got != tt.want {
			t.Errorf("%s: %q, want %q (%v)", tt.name, got, tt.want, tt.err)
		}
	}
	for kind, want := range map[string]string{event.ErrTypeUnreachable: "ECONNREFUSED timeout=false", event.ErrTypeTimeout: "ECONNREFUSED timeout=true"} {
		e := provider.Parse(&provider.Call{Provider: "openai", Dialect: provider.OpenAI, Method: "POST", Path: "/v1/chat/completions", Start: time.Now(), ErrType: kind, Err: ask("http://"+closed, http.DefaultClient)})
		if got := fmt.Sprintf("%s timeout=%t", e.ErrorCode, e.Status == event.StatusTimeout); got != want || !e.IsError || e.ErrorType != kind {
			t.Errorf("%s: %s %+v", kind, got, e)
		}
	}
	if e := provider.Parse(&provider.Call{Provider: "openai", Dialect: provider.OpenAI, Method: "POST", Path: "/v1/chat/completions", ErrType: event.ErrTypeTimeout}); e.ErrorCode != "ETIMEDOUT" {
		t.Errorf("a timeout has the code %q", e.ErrorCode)
	}
	if e := provider.Parse(&provider.Call{Provider: "openai", Dialect: provider.OpenAI, Method: "POST", Path: "/v1/chat/completions", ErrType: event.ErrTypeClientGone, Err: context.Canceled}); e.ErrorCode != event.CodeUnknown {
		t.Errorf("a caller that disconnected has the code %q", e.ErrorCode)
	}
}
