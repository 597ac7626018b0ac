package hedgerow_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hedgerow/hedgerow"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

// silent is a host that reads a request and never responds.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// Close and Flush with a context without a deadline return within their own
// limit, whatever the host does, and report what happened to the events.
func TestShutdownIsBounded(t *testing.T) {
	down := roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") })
	for name, host := range map[string]http.RoundTripper{"down": down, "silent": silent{}} {
		for _, tt := range []struct {
			bound, most time.Duration
			spool       bool
		}{{0, 10 * time.Second, false}, {0, 10 * time.Second, true}, {2 * time.Second, 2 * time.Second, false}} {
			t.Run(name, func(t *testing.T) {
				dir := ""
				if tt.spool {
					dir = t.TempDir()
				}
				synctest.Test(t, func(t *testing.T) {
					c, err := hedgerow.New(hedgerow.Config{APIKey: simposthog.Token, Host: "https://posthog.test", HTTPClient: &http.Client{Transport: host},
						ShutdownTimeout: tt.bound, SpoolDir: dir, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
					if err != nil {
						t.Fatal(err)
					}
					for range 7 {
						c.Capture(context.Background(), "e", nil)
					}
					begin := time.Now()
					err = c.Flush(context.Background())
					if d := time.Since(begin); d > tt.most {
						t.Errorf("Flush took %v", d)
					}
					var e *hedgerow.DeliveryError
					if !errors.As(err, &e) || !errors.Is(err, context.DeadlineExceeded) || e.Kept+e.Waiting != 7 || e.Dropped != 0 || tt.spool != (e.Kept == 7) {
						t.Errorf("Flush: %v (%+v)", err, e)
					}
					begin = time.Now()
					err = c.Close(context.Background())
					if d := time.Since(begin); d > tt.most {
						t.Errorf("Close took %v", d)
					}
					if !errors.As(err, &e) || e.Waiting != 0 || e.Kept+e.Dropped != 7 || tt.spool != (e.Kept == 7) {
						t.Errorf("Close: %v (%+v)", err, e)
					}
					want := "7 events were dropped"
					if tt.spool {
						want = "7 events are kept in the spool"
					}
					if !strings.Contains(err.Error(), want) {
						t.Errorf("Close: %v, want %q", err, want)
					}
				})
			})
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// If everything arrives there is no error.
func TestShutdownSaysNothingWhereAllArrives(t *testing.T) {
	bubble(t, func(c *hedgerow.Config) { c.ShutdownTimeout = 0 }, func(t *testing.T, r *rig) {
		r.Capture(t.Context(), "e", nil)
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if r.ph.Count() != 1 {
			t.Errorf("%d events", r.ph.Count())
		}
	})
}
