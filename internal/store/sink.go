package store

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
)

// Writer is what a [Sink] fills.
type Writer interface {
	Write(ctx context.Context, events []*event.Event) (WriteResult, error)
}

// Sink moves events from a queue into a store.
type Sink struct {
	Queue         event.Queue
	Store         Writer
	MaxBatch      int           // events in one transaction. Defaults to 2000
	FlushInterval time.Duration // longest wait for a batch to fill. Defaults to 100 ms, at most 250 ms
	Logger        *slog.Logger
	Registerer    prometheus.Registerer

	// OnStored is told of events once they are durable. It must return at once
	// and not change them. Duplicates are not told again.
	OnStored func(events []*event.Event)
}

// Run works until ctx ends, then finishes the batch in hand.
func (s *Sink) Run(ctx context.Context) error { return nil }
