package store

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// TestAdmission: queries wait in order of arrival, for a limited time; beyond a
// limited number they are rejected immediately.
func TestAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1, time.Second)
		enter := func(ctx context.Context) func() {
			t.Helper()
			leave, err := a.enter(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return leave
		}
		leave := enter(t.Context())

		start := time.Now()
		if _, err := a.enter(t.Context()); event.AsError(err).HTTPStatus() != 503 || time.Since(start) != time.Second {
			t.Errorf("a question that waits too long: %v after %v", err, time.Since(start))
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.enter(canceled); event.AsError(err).Code != event.CodeCanceled {
			t.Errorf("a question whose caller is gone: %v", err)
		}

		turns := make(chan int, maxWaiting)
		for i := range maxWaiting {
			go func() {
				leave, err := a.enter(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				turns <- i
				leave()
			}()
			synctest.Wait() // it waits in line
		}
		start = time.Now()
		if _, err := a.enter(t.Context()); event.AsError(err).HTTPStatus() != 503 || time.Since(start) != 0 || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a question more than may wait: %v after %v", err, time.Since(start))
		}
		leave()
		for want := range maxWaiting {
			if got := <-turns; got != want {
				t.Fatalf("question %d has its turn before %d", got, want)
			}
		}
		enter(t.Context())()
	})
}
