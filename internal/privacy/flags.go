package privacy

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/tidwall/gjson"
)

// flagMember is the type of a member of a feature flag request.
type flagMember uint8

const (
	flagText   flagMember = iota // a number, or a text of at most 200 characters in one line: ids
	flagSwitch                   // a boolean
	flagNames                    // a list of short texts
	flagGroups                   // an object of short texts: the key of each group type
	flagPerson                   // an object of properties
	flagTypes                    // an object of such objects, one for each group type
)

// flagMembers are the members that PostHog reads (contract section 6.1, and
// FlagRequest of PostHog's rust/feature-flags), under the names that SDKs use.
var flagMembers = map[string]flagMember{
	"distinct_id": flagText, "$anon_distinct_id": flagText, "device_id": flagText, "$device_id": flagText,
	"timezone": flagText, "evaluation_runtime": flagText, "cookieless_hash_extra": flagText,
	"geoip_disable": flagSwitch, "disable_flags": flagSwitch,
	"flag_keys": flagNames, "flag_keys_to_evaluate": flagNames, "evaluation_contexts": flagNames, "evaluation_environments": flagNames,
	"groups": flagGroups, "person_properties": flagPerson, "group_properties": flagTypes,
}

// FlagRequest returns the members of a feature flag request that are sent in
// privacy mode. Members that PostHog does not read are omitted, and so is the
// token, which the caller of FlagRequest sets. Of the properties of persons
// and groups it keeps those that an event would send as $set; send lists
// further properties that are sent whatever their values.
func FlagRequest(asked map[string]json.RawMessage, send []string) map[string]json.RawMessage {
	out := make(map[string]json.RawMessage, len(asked))
	property := func(name string, v json.RawMessage) (json.RawMessage, Reason) {
		if slices.Contains(send, name) {
			return v, ""
		}
		return personProperty(name, v)
	}
	for name, member := range flagMembers {
		v, ok := asked[name]
		if !ok {
			continue
		}
		r := gjson.ParseBytes(v)
		switch member {
		case flagText:
			ok = r.Type == gjson.Number || r.Type == gjson.String && oneLine(r.Str)
		case flagSwitch:
			ok = r.IsBool()
		case flagNames:
			v, ok = listOf(r, oneLine)
			ok = ok && r.IsArray()
		case flagGroups:
			v, ok = flagObject(r, func(_ string, v json.RawMessage) (json.RawMessage, Reason) {
				r := gjson.ParseBytes(v)
				return v, reasonUnless(r.Type == gjson.Number || r.Type == gjson.String && oneLine(r.Str))
			})
		case flagPerson:
			v, ok = flagObject(r, property)
		case flagTypes:
			v, ok = flagObject(r, func(_ string, v json.RawMessage) (json.RawMessage, Reason) {
				safe, ok := flagObject(gjson.ParseBytes(v), property)
				return safe, reasonUnless(ok)
			})
		}
		if ok {
			out[name] = v
		}
	}
	return out
}

// flagObject keeps the members for which keep reports no reason, however many:
// a condition may use any of them. An empty object stays empty.
func flagObject(v gjson.Result, keep func(name string, v json.RawMessage) (json.RawMessage, Reason)) (json.RawMessage, bool) {
	if !v.IsObject() {
		return nil, false
	}
	out := make(map[string]json.RawMessage)
	for name, m := range v.Map() {
		if safe, why := keep(name, json.RawMessage(m.Raw)); why == "" && oneLine(name) {
			out[name] = safe
		}
	}
	b, err := json.Marshal(out)
	return b, err == nil
}

// flagQueries are the query parameters of SDKs' requests for flags, their
// definitions and the browser's settings.
var flagQueries = []string{"v", "ver", "config", "token", "send_cohorts", "only_evaluate_survey_feature_flags", "stage"}

// FlagQuery returns the query parameters of such a request to send in privacy
// mode: known parameters with single words as values.
func FlagQuery(query map[string][]string) map[string][]string {
	out := maps.Clone(query)
	maps.DeleteFunc(out, func(name string, values []string) bool {
		return !slices.Contains(flagQueries, name) || slices.ContainsFunc(values, func(v string) bool { return v != "" && name != "token" && !isWord(v) })
	})
	return out
}
