package httpbody

import (
	"log/slog"
	"sync"
	"time"
)

// Warnings logs warnings, each reason at most once a minute, so that a client in a
// loop does not fill the disk.
type Warnings struct {
	log *slog.Logger
	now func() time.Time

	mu sync.Mutex
	at map[string]time.Time // by reason
}

// NewWarnings returns a Warnings without history.
func NewWarnings(log *slog.Logger, now func() time.Time) *Warnings {
	return &Warnings{log: log, now: now, at: make(map[string]time.Time)}
}

// Warn logs a line, unless the same reason was logged within a minute. reason must
// be one of a few constants, because each is kept in memory.
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
