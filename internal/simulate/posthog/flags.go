package posthog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// serveFlags serves /flags/?v=2 and the older /decide (contract section 6.1).
// Unlike capture, it rejects unknown tokens.
func (s *Server) serveFlags(w http.ResponseWriter, r *http.Request, rec *Request) {
	cors(w, r)
	body, _, bad := payload(r.URL.Query(), r.Header.Get("Content-Type"), rec.Body)
	if bad != nil {
		drf(w, http.StatusBadRequest, "validation_error", "invalid_input", bad.message)
		return
	}
	var in struct {
		Token      json.RawMessage `json:"token"`
		APIKey     json.RawMessage `json:"api_key"`
		DistinctID json.RawMessage `json:"distinct_id"`
		Only       []string        `json:"flag_keys_to_evaluate"`

		DeviceID        string                    `json:"device_id"`
		Properties      map[string]any            `json:"person_properties"`
		Groups          map[string]string         `json:"groups"`
		GroupProperties map[string]map[string]any `json:"group_properties"`
	}
	if json.Unmarshal(body, &in) != nil {
		drf(w, http.StatusBadRequest, "validation_error", "invalid_input", "Malformed request data")
		return
	}
	token := rawjson.Text(in.Token)
	if token == "" {
		token = rawjson.Text(in.APIKey)
	}
	if _, ok := s.projectByToken(token); !ok {
		drf(w, http.StatusUnauthorized, "authentication_error", "invalid_api_key", "Project API key invalid. You can find your project API key in your PostHog project settings.")
		return
	}
	if rawjson.Text(in.DistinctID) == "" {
		drf(w, http.StatusBadRequest, "validation_error", "missing_distinct_id", "distinct_id is missing")
		return
	}
	s.mu.Lock()
	flags, limited, definitions := maps.Clone(s.flags), s.quota["feature_flags"], s.definitions
	s.mu.Unlock()
	flags = decide(flags, definitions, flag.User{DistinctID: rawjson.Text(in.DistinctID), DeviceID: in.DeviceID, Properties: in.Properties,
		Groups: in.Groups, GroupProperties: in.GroupProperties, Now: s.o.Now()})
	out := map[string]any{"errorsWhileComputingFlags": false, "requestId": event.NewID(), "evaluatedAt": s.o.Now().UnixMilli()}
	if limited {
		flags = nil
		// Both spellings: SDKs read one or the other.
		out["quotaLimited"], out["quota_limited"] = []string{"feature_flags"}, []string{"feature_flags"}
	}
	if len(in.Only) > 0 {
		maps.DeleteFunc(flags, func(key string, _ any) bool { return !slices.Contains(in.Only, key) })
	}
	if r.URL.Query().Get("v") != "2" {
		out["featureFlags"], out["featureFlagPayloads"] = nonNil(flags), map[string]any{}
		writeJSON(w, http.StatusOK, out)
		return
	}
	details := make(map[string]any, len(flags))
	for i, key := range slices.Sorted(maps.Keys(flags)) {
		variant, isVariant := flags[key].(string)
		d := map[string]any{"key": key, "enabled": isVariant || flags[key] == true, "variant": nil,
			"reason":   map[string]any{"code": "condition_match", "description": "Matched condition set 1", "condition_index": 0},
			"metadata": map[string]any{"id": i + 1, "version": 1, "payload": nil}}
		if flags[key] == false {
			d["reason"] = map[string]any{"code": "no_condition_match", "description": "No matching condition set", "condition_index": nil}
		}
		if isVariant {
			d["variant"] = variant
		}
		if def, ok := definitions.Definition(key); ok {
			meta := map[string]any{"id": def.ID, "version": def.Version, "payload": nil}
			if p := definitions.Payload(key, flag.ValueOf(flags[key])); p != nil {
				meta["payload"] = string(p)
			}
			if def.HasExperiment != nil {
				meta["has_experiment"] = *def.HasExperiment
			}
			d["metadata"] = meta
		}
		details[key] = d
	}
	out["flags"] = details
	writeJSON(w, http.StatusOK, out)
}

func nonNil(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// SetDefinitions sets the flags, in PostHog's format, that /flags/definitions
// serves and /flags evaluates, in addition to those of [Server.SetFlags]. Flags
// that cannot be evaluated locally are false: this server has no user
// properties other than those in requests.
func (s *Server) SetDefinitions(body []byte) error {
	set, err := flag.Parse(body)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.definitions, s.definitionsBody = set, slices.Clone(body)
	s.signal()
	return nil
}

// FlagActive reports whether a flag with that key exists and is enabled.
func (s *Server) FlagActive(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.definitions.Definition(key)
	return ok && d.Active
}

// decide adds the values of the definitions for a user.
func decide(flags map[string]any, set *flag.Set, u flag.User) map[string]any {
	if set == nil {
		return flags
	}
	flags = nonNil(flags)
	for _, d := range set.Flags {
		v, err := set.Evaluate(d.Key, u)
		if err != nil {
			v = flag.Value{}
		}
		flags[d.Key] = v.Any()
	}
	return flags
}

// serveDefinitions serves /flags/definitions and the older route (contract
// section 6.2).
func (s *Server) serveDefinitions(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	body, limited := s.definitionsBody, s.quota["feature_flags"]
	s.mu.Unlock()
	if limited {
		drf(w, http.StatusPaymentRequired, "quota_limited", "payment_required", "You have exceeded your feature flag request quota")
		return
	}
	if body == nil {
		body = []byte(`{"flags":[],"group_type_mapping":{},"cohorts":{}}`)
	}
	sum := sha256.Sum256(body)
	etag := `"` + hex.EncodeToString(sum[:8]) + `"`
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// patchFlag enables or disables a flag.
func (s *Server) patchFlag(w http.ResponseWriter, id string, body []byte) {
	var in struct {
		Active *bool `json:"active"`
	}
	if json.Unmarshal(body, &in) != nil || in.Active == nil {
		drf(w, http.StatusBadRequest, "validation_error", "invalid_input", "this PostHog supports changes of \"active\" only.")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all map[string]any
	_ = json.Unmarshal(s.definitionsBody, &all) // it was read before, or is nil
	list, _ := all["flags"].([]any)
	for _, v := range list {
		f, _ := v.(map[string]any)
		if n, _ := f["id"].(float64); strconv.Itoa(int(n)) != id {
			continue
		}
		version, _ := f["version"].(float64)
		f["active"], f["version"] = *in.Active, version+1
		changed, err := json.Marshal(all)
		if err == nil {
			s.definitions, err = flag.Parse(changed)
		}
		if err != nil {
			drf(w, http.StatusInternalServerError, "server_error", "error", fmt.Sprint(err))
			return
		}
		s.definitionsBody = changed
		s.signal()
		writeJSON(w, http.StatusOK, f)
		return
	}
	drf(w, http.StatusNotFound, "invalid_request", "not_found", "Not found.")
}
