package ingest

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/project"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Flags that hedgerow evaluates itself are added to PostHog's in responses to SDKs.
// If both have a flag with the same key, PostHog's is used, also for the rollout.

// ownFlags returns a project's own flags by key.
func (h *Handler) ownFlags(projectID string) map[string]flag.Definition {
	if h.c.OwnFlags == nil {
		return nil
	}
	own := make(map[string]flag.Definition)
	for _, d := range h.c.OwnFlags(projectID) {
		own[d.Key] = d
	}
	return own
}

// flagValue is a flag's value in the response of /flags?v=2 (contract section 6.1).
type flagValue struct {
	Key      string         `json:"key"`
	Enabled  bool           `json:"enabled"`
	Variant  *string        `json:"variant"`
	Reason   flagReason     `json:"reason"`
	Metadata map[string]any `json:"metadata"`

	value flag.Value
}

type flagReason struct {
	Code        string `json:"code"`
	Index       *int   `json:"condition_index"`
	Description string `json:"description"`
}

// decideOwn evaluates a project's own flags for a request.
func (h *Handler) decideOwn(own map[string]flag.Definition, asked map[string]json.RawMessage) map[string]flagValue {
	id := rawjson.Text(asked["distinct_id"])
	if len(own) == 0 || id == "" {
		return nil
	}
	var only []string
	_ = json.Unmarshal(asked["flag_keys_to_evaluate"], &only) // anything else requests all
	set := flag.NewSet(slices.Collect(maps.Values(own)), nil, nil, false)
	out := make(map[string]flagValue, len(own))
	for key, d := range own {
		if only != nil && !slices.Contains(only, key) {
			continue
		}
		v, err := set.Evaluate(key, flag.User{DistinctID: id, Now: h.Now()})
		if err != nil {
			continue // percentages can always be evaluated
		}
		f := flagValue{Key: key, Enabled: v.Enabled, Metadata: map[string]any{"id": d.ID, "version": d.Version, "payload": nil, "description": d.Name}, value: v}
		if v.Enabled && v.Variant != "" {
			f.Variant = &v.Variant
		}
		first := 0
		switch {
		case v.Enabled:
			f.Reason = flagReason{"condition_match", &first, "Matched condition set 1"}
		case d.Active:
			f.Reason = flagReason{"out_of_rollout_bound", &first, "Out of rollout bound"}
		default:
			f.Reason = flagReason{"flag_disabled", nil, "Feature flag is disabled"}
		}
		out[key] = f
	}
	return out
}

// addFlags adds missing flags to a response of /flags or /decide, in any of its
// forms. Unknown forms are left unchanged.
func addFlags(response []byte, flags map[string]flagValue) []byte {
	var v map[string]json.RawMessage
	if len(flags) == 0 || json.Unmarshal(response, &v) != nil {
		return response
	}
	var list []string
	switch {
	case v["flags"] != nil:
		v["flags"] = addMissing(v["flags"], flags, func(f flagValue) any { return f })
	case json.Unmarshal(v["featureFlags"], &list) == nil && v["featureFlags"] != nil: // the oldest form: a list of enabled flags
		for _, key := range slices.Sorted(maps.Keys(flags)) {
			if flags[key].Enabled && !slices.Contains(list, key) {
				list = append(list, key)
			}
		}
		v["featureFlags"], _ = json.Marshal(list)
	case v["featureFlags"] != nil:
		v["featureFlags"] = addMissing(v["featureFlags"], flags, func(f flagValue) any { return f.value.Any() })
	default:
		return response
	}
	if _, ok := v["hasFeatureFlags"]; ok {
		v["hasFeatureFlags"] = json.RawMessage("true")
	}
	out, err := json.Marshal(v)
	if err != nil {
		return response
	}
	return out
}

// addMissing adds missing members to an object.
func addMissing(object []byte, flags map[string]flagValue, as func(flagValue) any) json.RawMessage {
	var v map[string]json.RawMessage
	if json.Unmarshal(object, &v) != nil || v == nil {
		return object
	}
	for key, f := range flags {
		if _, ok := v[key]; !ok {
			v[key], _ = json.Marshal(as(f)) // of plain values
		}
	}
	out, err := json.Marshal(v)
	if err != nil {
		return object
	}
	return out
}

// noDefinitions is an empty response of /flags/definitions.
const noDefinitions = `{"cohorts":{},"flags":[],"group_type_mapping":{}}`

// addDefinitions adds definitions to a response of /flags/definitions. With remote,
// PostHog's own are marked as not locally evaluable: if the connection hashes ids,
// SDKs with the plain ids would compute other shares than PostHog.
func addDefinitions(response []byte, own map[string]flag.Definition, remote bool) []byte {
	var v map[string]json.RawMessage
	var flags []map[string]json.RawMessage
	if len(own) == 0 && !remote || json.Unmarshal(response, &v) != nil || json.Unmarshal(v["flags"], &flags) != nil {
		return response
	}
	there := make(map[string]bool, len(flags))
	for _, f := range flags {
		there[rawjson.Text(f["key"])] = true
		if remote && f != nil {
			f["ensure_experience_continuity"] = json.RawMessage("true")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(own)) {
		if there[key] {
			continue
		}
		var f map[string]json.RawMessage
		b, err := json.Marshal(own[key])
		if err != nil || json.Unmarshal(b, &f) != nil {
			continue
		}
		for name, v := range map[string]string{"id": "0", "deleted": "false", "ensure_experience_continuity": "false"} {
			if f[name] == nil {
				f[name] = json.RawMessage(v)
			}
		}
		flags = append(flags, f)
	}
	var err error
	if v["flags"], err = json.Marshal(flags); err != nil {
		return response
	}
	out, err := json.Marshal(v)
	if err != nil {
		return response
	}
	return out
}

// hashes reports whether a connection sends hashed ids.
func (h *Handler) hashes(c project.Connection) bool {
	const id = "0"
	return h.c.OutboundID(c, id) != id
}

// anonymise replaces ids by those of the connection's PostHog, and removes
// identifying person properties.
func (h *Handler) anonymise(c project.Connection, asked map[string]json.RawMessage) {
	hash := func(m map[string]json.RawMessage, names ...string) {
		for _, name := range names {
			if id := rawjson.Text(m[name]); id != "" {
				m[name], _ = json.Marshal(h.c.OutboundID(c, id)) // a string
			}
		}
	}
	hash(asked, "distinct_id", "$anon_distinct_id", "device_id", "$device_id")
	asked["geoip_disable"] = json.RawMessage("true")
	delete(asked, "ip")
	if asked["person_properties"] != nil {
		left := make(map[string]json.RawMessage)
		for name, v := range rawjson.Members(asked["person_properties"]) {
			if !h.c.Personal(keyText(name)) {
				left[keyText(name)] = v
			}
		}
		hash(left, "distinct_id", "$anon_distinct_id", "$device_id") // SDKs repeat them here
		asked["person_properties"], _ = json.Marshal(left)
	}
}
