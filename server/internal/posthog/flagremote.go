package posthog

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// flagsAnswer is what /flags?v=2 answers, or an older PostHog (contract section 6.1).
type flagsAnswer struct {
	Flags map[string]struct {
		Enabled bool    `json:"enabled"`
		Variant *string `json:"variant"`
		Failed  bool    `json:"failed"`
		Reason  struct {
			Code        string `json:"code"`
			Description string `json:"description"`
		} `json:"reason"`
		Metadata struct {
			ID            int64           `json:"id"`
			Version       int64           `json:"version"`
			Payload       json.RawMessage `json:"payload"`
			HasExperiment *bool           `json:"has_experiment"`
		} `json:"metadata"`
	} `json:"flags"`
	Older        map[string]any `json:"featureFlags"`
	Errors       bool           `json:"errorsWhileComputingFlags"`
	RequestID    string         `json:"requestId"`
	EvaluatedAt  int64          `json:"evaluatedAt"`
	QuotaLimited []string       `json:"quotaLimited"`
	Minimal      bool           `json:"minimalFlagCalledEvents"`
}

// remote has PostHog evaluate a flag.
func (f *Flags) remote(ctx context.Context, conn project.Connection, key string, u flag.User) (decision, error) {
	question, err := json.Marshal(map[string]any{
		"token": conn.ProjectKey.Reveal(), "distinct_id": u.DistinctID, "device_id": u.DeviceID, "groups": nonNilMap(u.Groups), "person_properties": nonNil(u.Properties),
		"group_properties": nonNilMap(u.GroupProperties), "flag_keys_to_evaluate": []string{key}, "geoip_disable": true, // hedgerow's own address must not be used for the user's location
	})
	if err != nil {
		return decision{}, event.NewError(event.CodeInvalid, "the user's properties are no JSON", "", err)
	}
	cacheKey, now := keyOf(conn.ID, string(question)), f.c.Now()
	if s, ok := f.answers.get(cacheKey); ok && now.Sub(s.at) < remoteFresh {
		return s.answer.decision(key), nil
	}
	if at, ok := f.trouble.get(conn.Host); ok && now.Sub(at) < troubleWait {
		return decision{}, event.NewError(event.CodeUnavailable, "PostHog failed recently and is not queried for flags", "", nil)
	}
	a, err := f.caller.post(ctx, conn.Host+"/flags/?v=2", project.Secret{}, json.RawMessage(question), maxFlagAnswer)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			f.trouble.put(conn.Host, now)
		}
		t := explain(err, conn.Host)
		return decision{}, event.NewError(event.CodeUpstream, t.message, t.hint, err)
	}
	var in flagsAnswer
	switch {
	case a.status >= 500 || a.status == http.StatusTooManyRequests:
		f.trouble.put(conn.Host, now)
		fallthrough
	case a.status != http.StatusOK:
		return decision{}, event.NewError(event.CodeUpstream, "PostHog answers "+strconv.Itoa(a.status)+" to a question for a flag", "", nil)
	case json.Unmarshal(a.body, &in) != nil:
		return decision{}, event.NewError(event.CodeUpstream, "PostHog's answer to a question for a flag cannot be read", "see whether the host is PostHog's", nil)
	case len(in.QuotaLimited) > 0:
		return decision{}, event.NewError(event.CodeRateLimited, "the project is over PostHog's quota for feature flags", "raise the limit in PostHog", nil)
	}
	d := in.decision(key)
	if !d.known && in.Errors {
		return decision{}, event.NewError(event.CodeUpstream, "PostHog could not decide the flag", "", nil)
	}
	if v := in.Flags[key]; v.Failed {
		return decision{}, event.NewError(event.CodeUpstream, "PostHog could not decide the flag", "", nil)
	}
	f.answers.put(cacheKey, heard{in, now})
	return d, nil
}

func (a *flagsAnswer) decision(key string) decision {
	d := decision{requestID: a.RequestID, evaluatedAt: a.EvaluatedAt, minimal: a.Minimal}
	if a.Errors {
		d.errors = append(d.errors, "errors_while_computing_flags")
	}
	v, ok := a.Flags[key]
	if !ok {
		if old, ok := a.Older[key]; ok {
			d.known, d.value = true, flag.ValueOf(old)
			return d
		}
		d.errors = append(d.errors, "flag_missing")
		return d
	}
	d.known, d.value.Enabled, d.reason = true, v.Enabled, v.Reason.Description
	if v.Variant != nil && v.Enabled {
		d.value.Variant = *v.Variant
	}
	m := v.Metadata
	d.id, d.version, d.hasExperiment = m.ID, m.Version, m.HasExperiment
	if string(m.Payload) != "null" {
		d.payload = m.Payload
	}
	return d
}

func nonNilMap[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}
