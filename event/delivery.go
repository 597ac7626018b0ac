package event

import (
	"context"
	"time"
)

// Delivery is an event that the journal delivers to a sink. The sink ends each
// delivery exactly once with Ack, Retry or Dead; otherwise it is redelivered
// after the consumer's acknowledgment wait.
type Delivery struct {
	Event   *Event
	Seq     uint64    // position in the journal; events that were appended together may share one
	Attempt int       // 1 for the first delivery
	Bytes   int       // length of the frame
	At      time.Time // when it was appended
	Resent  bool      // it was appended again for this consumer alone
	Acker
}

// Acker ends a delivery.
type Acker interface {
	// Ack records that the sink has the event durably.
	Ack() error
	// Retry requests redelivery, not before the delay has passed.
	Retry(after time.Duration) error
	// Extend signals that the sink is still processing the event.
	Extend() error
	// Dead moves the event to the sink's dead letters, with the reason. The
	// reason must not quote content or keys.
	Dead(reason string) error
}

// Queue is the journal's durable consumer, as a sink reads it.
type Queue interface {
	// Fetch returns up to max deliveries. It waits for the first no longer than
	// until ctx ends, and for the others no longer than wait after the first.
	Fetch(ctx context.Context, max int, wait time.Duration) ([]Delivery, error)
}
