package posthog

import (
	"context"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// An outcome can precede its call: spans are sent in batches, and the call of a
// stream ends after its last words were read. It is returned to the queue and
// checked again after these times. Then it is sent without its call's fields.
var callWaits = []time.Duration{time.Second, 3 * time.Second, 6 * time.Second}

const (
	callAge = time.Minute // age after which an outcome's call would have arrived

	// While the store cannot be queried, outcomes of any age wait, for a
	// minute.
	storeWait  = 5 * time.Second
	storeWaits = 12
)

// filterUnwanted acknowledges events that no connection sends, and returns the rest.
func (d *deliverer) filterUnwanted(ctx context.Context, ds []event.Delivery) []event.Delivery {
	if d.m.c.Wanted == nil {
		return ds
	}
	return slices.DeleteFunc(ds, func(dl event.Delivery) bool {
		wanted, err := d.m.c.Wanted(ctx, dl.Event)
		switch {
		case err != nil:
			err = dl.Retry(storeWait)
		case wanted:
			return false
		default:
			d.st.filtered.Add(1)
			err = dl.Ack()
		}
		if err != nil {
			d.log.Debug("acknowledge an event that is not sent", "err", err)
		}
		return true
	})
}

// filterJoined acknowledges events of which another capture is sent, returns those that
// wait for one to the queue, and returns the rest.
func (d *deliverer) filterJoined(ctx context.Context, ds []event.Delivery) []event.Delivery {
	if d.m.c.Decide == nil {
		return ds
	}
	return slices.DeleteFunc(ds, func(dl event.Delivery) bool {
		drop, wait, err := d.m.c.Decide(ctx, dl)
		switch {
		case err != nil:
			err = dl.Retry(storeWait)
		case drop:
			d.st.filtered.Add(1)
			err = dl.Ack()
		case wait > 0:
			err = dl.Retry(wait)
		default:
			return false
		}
		if err != nil {
			d.log.Debug("end the delivery of a call that was captured twice", "err", err)
		}
		return true
	})
}

// join completes the outcomes among deliveries, and returns those that can be
// sent now.
func (d *deliverer) join(ctx context.Context, ds []event.Delivery) []event.Delivery {
	if d.m.c.Join == nil || len(ds) == 0 {
		return ds
	}
	events := make([]*event.Event, len(ds))
	for i, dl := range ds {
		events[i] = dl.Event
	}
	unknown, err := d.m.c.Join(ctx, events)
	if len(unknown) == 0 {
		return ds
	}
	now := d.m.c.Now()
	return slices.DeleteFunc(ds, func(dl event.Delivery) bool {
		if !slices.Contains(unknown, dl.Event) {
			return false
		}
		var wait time.Duration
		switch {
		case err != nil && dl.Attempt <= storeWaits:
			wait = storeWait
		case err == nil && dl.Attempt <= len(callWaits) && now.Sub(dl.Event.Timestamp) < callAge:
			wait = callWaits[max(dl.Attempt, 1)-1]
		default:
			return false
		}
		if rerr := dl.Retry(wait); rerr != nil {
			d.log.Debug("return outcome to queue", "err", rerr)
		}
		return true
	})
}
