package httpbody

import (
	"log/slog"
	"sync"
	"time"
)

// Warnings tells the log what goes wrong, each reason once a minute: a client in a
// loop must not fill the disk with it.
type Warnings struct {
	log *slog.Logger
	now func() time.Time

	mu sync.Mutex
	at map[string]time.Time // by reason
}

// NewWarnings returns warnings that have told nothing yet.
func NewWarnings(log *slog.Logger, now func() time.Time) *Warnings {
	return &Warnings{log: log, now: now, at: make(map[string]time.Time)}
}

// Warn writes a line unless one was written for the same reason in the minute
// before. reason is one of a few words of the caller's: each stays in memory.
func (w *Warnings) Warn(reason, msg string, args ...any) {
	now := w.now()
	w.mu.Lock()
	silent := now.Sub(w.at[reason]) < time.Minute
	if !silent {
		w.at[reason] = now
	}
	w.mu.Unlock()
	if !silent {
		w.log.Warn(msg, append(args, "reason", reason)...)
	}
}
