package posthog

import (
	"encoding/json"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
)

// FlagCalled is the event that records a flag call in PostHog.
const FlagCalled = "$feature_flag_called"

// tell sends $feature_flag_called, once for each user and value (contract
// section 6.4).
func (f *Flags) tell(projectID, connectionID, key string, u flag.User, d decision) {
	if f.c.Append == nil {
		return
	}
	groups, err := json.Marshal(u.Groups) // keys sorted
	if err != nil {
		return
	}
	seen := keyOf(connectionID, u.DistinctID, u.DeviceID, key, d.text(), string(groups))
	if _, told := f.called.get(seen); told {
		return
	}
	e := d.event(projectID, key, u)
	e.Timestamp = f.c.Now()
	select {
	case f.queue <- e:
		f.called.put(seen, struct{}{})
	default:
		// The journal lags. The user's next call reports it.
	}
}

func (d *decision) text() string {
	if !d.known {
		return "null"
	}
	return d.value.String()
}

// event returns $feature_flag_called. For a flag without an experiment it is
// short if PostHog requests that.
func (d *decision) event(projectID, key string, u flag.User) *event.Event {
	e := &event.Event{UUID: event.NewID(), ProjectID: projectID, Name: FlagCalled, DistinctID: u.DistinctID, Groups: u.Groups}
	set := func(name string, v any) { _ = e.SetProperty(name, v) } // texts, numbers and booleans marshal
	short := d.known && d.minimal && d.hasExperiment != nil && !*d.hasExperiment
	var response any
	if d.known {
		response = d.value.Any()
		if !short {
			e.Flags = map[string]string{key: d.value.String()}
		}
	}
	set("$feature_flag", key)
	set("$feature_flag_response", response)
	set("locally_evaluated", d.local)
	if u.DeviceID != "" {
		set("$device_id", u.DeviceID)
	}
	if d.known && d.id != 0 {
		set("$feature_flag_id", d.id)
		set("$feature_flag_version", d.version)
	}
	if d.reason != "" {
		set("$feature_flag_reason", d.reason)
	}
	if d.hasExperiment != nil {
		set("$feature_flag_has_experiment", *d.hasExperiment)
	}
	if len(d.payload) > 0 && !short {
		set("$feature_flag_payload", d.payload)
	}
	switch {
	case d.local:
		set("$feature_flag_definitions_loaded_at", d.loadedAt.UnixMilli())
	default:
		if d.requestID != "" {
			set("$feature_flag_request_id", d.requestID)
		}
		if d.evaluatedAt != 0 {
			set("$feature_flag_evaluated_at", d.evaluatedAt)
		}
	}
	if len(d.errors) > 0 {
		set("$feature_flag_error", strings.Join(d.errors, ","))
	}
	return e
}
