package posthogtest

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"github.com/hedgerow/hedgerow/event"
)

// serveFlags serves /flags/?v=2 and the older /decide (contract section 6.1).
// Unlike capture, it knows which tokens exist.
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
	}
	if json.Unmarshal(body, &in) != nil {
		drf(w, http.StatusBadRequest, "validation_error", "invalid_input", "Malformed request data")
		return
	}
	token := text(in.Token)
	if token == "" {
		token = text(in.APIKey)
	}
	if _, ok := s.projectByToken(token); !ok {
		drf(w, http.StatusUnauthorized, "authentication_error", "invalid_api_key", "Project API key invalid. You can find your project API key in your PostHog project settings.")
		return
	}
	if text(in.DistinctID) == "" {
		drf(w, http.StatusBadRequest, "validation_error", "missing_distinct_id", "distinct_id is missing")
		return
	}
	s.mu.Lock()
	flags, limited := maps.Clone(s.flags), s.quota["feature_flags"]
	s.mu.Unlock()
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
		if isVariant {
			d["variant"] = variant
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
