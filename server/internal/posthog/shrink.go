package posthog

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/hedgerow/hedgerow/event"
)

// PropDropped lists, on an event that was too large for PostHog, the omitted
// properties. They are complete in hedgerow.
const PropDropped = "hedgerow_dropped"

const minDrop = 64 // bytes; smaller values are not worth dropping

// shrink makes an event's body fit a size by leaving out its largest parts, and
// as few as possible. Envelope, tokens, costs and times stay. It reports false
// where that does not suffice.
func (d *deliverer) shrink(it *item, limit int) bool {
	for len(it.body) > limit {
		e, names := shrink(it.out, len(it.body)-limit)
		if len(names) == 0 {
			return false
		}
		body, err := e.MarshalPostHog(d.m.wire(it.from.d.Event))
		if err != nil || len(body) >= len(it.body) {
			return false
		}
		d.log.Info("an event too large for PostHog was reduced", "uuid", e.UUID, "event", e.Name, "from_bytes", len(it.body), "to_bytes", len(body), "dropped", len(names))
		d.hold.resize(it.from, len(body)-len(it.body))
		it.out, it.body = e, body
	}
	return true
}

// shrink returns a copy without its largest parts, at least excess bytes of
// them where there are as many, and the names of those parts.
func shrink(e *event.Event, excess int) (*event.Event, []string) {
	type part struct {
		name string
		size int
		drop func(*event.Event)
	}
	var parts []part
	add := func(name string, size int, drop func(*event.Event)) {
		if size >= minDrop {
			parts = append(parts, part{name, size, drop})
		}
	}
	add("$ai_input", len(e.Content.Input), func(c *event.Event) { c.Content.Input = nil })
	add("$ai_output_choices", len(e.Content.Output), func(c *event.Event) { c.Content.Output = nil })
	add("$ai_tools", len(e.Content.Tools), func(c *event.Event) { c.Content.Tools = nil })
	add("$ai_input_state", len(e.Content.InputState), func(c *event.Event) { c.Content.InputState = nil })
	add("$ai_output_state", len(e.Content.OutputState), func(c *event.Event) { c.Content.OutputState = nil })
	add("$ai_error", len(e.ErrorMessage), func(c *event.Event) { c.ErrorMessage = "" })
	add("$ai_request_url", len(e.RequestURL), func(c *event.Event) { c.RequestURL = "" })
	for k, v := range e.Properties {
		if k != PropDropped {
			add(k, len(k)+len(v), func(c *event.Event) { delete(c.Properties, k) })
		}
	}
	for k, v := range e.Flags {
		add("$feature/"+k, len(k)+len(v), func(c *event.Event) { delete(c.Flags, k) })
	}
	add("$ai_model_parameters", sizeOf(e.ModelParameters), func(c *event.Event) { c.ModelParameters = nil })
	add("$ai_provider_metadata", sizeOf(e.ProviderMetadata), func(c *event.Event) { c.ProviderMetadata = nil })
	tags := 0
	for _, t := range e.Tags {
		tags += len(t) + len(`"":true,`)
	}
	add("tags", tags, func(c *event.Event) { c.Tags = nil })
	slices.SortFunc(parts, func(a, b part) int { return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.name, b.name)) })

	c := e.Clone()
	var names []string
	for _, p := range parts {
		if excess <= 0 {
			break
		}
		p.drop(c)
		names = append(names, p.name)
		excess -= p.size
	}
	if len(names) == 0 {
		return c, nil
	}
	var all []string
	_ = json.Unmarshal(e.Properties[PropDropped], &all) // from an earlier round, or absent
	all = append(all, names...)
	const many = 20 // names: they must not be what makes the event too large
	if len(all) > many {
		all = append(all[:many:many], "…")
	}
	for i, n := range all {
		if len(n) > event.MaxNameLen {
			all[i] = "…"
		}
	}
	_ = c.SetProperty(PropDropped, all) // strings always marshal
	return c, names
}

func sizeOf(m map[string]json.RawMessage) int {
	n := 0
	for k, v := range m {
		n += len(k) + len(v)
	}
	return n
}
