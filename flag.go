package hedgerow

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
)

// flagTimeout is the limit of a flag request, the same as in PostHog's SDKs.
const flagTimeout = 3 * time.Second

// maxFlagsSent limits the number of remembered flag calls.
const maxFlagsSent = 50_000

// Flag returns the value of a feature flag for the user of the context ([WithUser],
// [WithGroups]): "true", "false" or a variant's name. Every call sends a request to
// the client's host, hedgerow or PostHog; on an error the caller chooses a default.
// The flag call is captured as $feature_flag_called, once for each user and value.
//
// Pass the value to [WithFlag] to attribute the calls that follow to it.
func (c *Client) Flag(ctx context.Context, key string) (string, error) {
	a := attributionOf(ctx)
	switch {
	case !c.Enabled():
		return "", event.NewError(event.CodeUnavailable, "flags cannot be evaluated: the client is disabled", "set Config.APIKey", nil)
	case key == "":
		return "", event.Invalid("the flag has no key", "name the flag")
	case a == nil || event.CleanValue(a.user) == "":
		return "", event.Invalid("the context has no user for the flag", "use WithUser")
	}
	question, err := json.Marshal(map[string]any{"token": c.c.APIKey, "distinct_id": event.CleanValue(a.user), "groups": merged(a.groups, nil),
		"person_properties": Properties{}, "group_properties": Properties{}, "flag_keys_to_evaluate": []string{key}})
	if err != nil {
		return "", fmt.Errorf("encode flag request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, flagTimeout)
	defer cancel()
	unavailable := func(err error) error {
		return event.NewError(event.CodeUnavailable, "the flag could not be requested", "check that the client's host is right and reachable", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.c.Host+"/flags/?v=2", bytes.NewReader(question))
	if err != nil {
		return "", unavailable(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", libName+"/"+Version)
	resp, err := c.http.Do(req)
	if err != nil {
		return "", unavailable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	if err != nil {
		return "", unavailable(err)
	}
	var answer struct {
		Flags map[string]struct {
			Enabled bool
			Variant string
			Failed  bool
			Reason  struct{ Description string }
		}
		Errors    bool `json:"errorsWhileComputingFlags"`
		RequestID string
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", unavailable(err)
	}
	f, ok := answer.Flags[key]
	switch {
	case ok && !f.Failed:
	case answer.Errors || f.Failed:
		return "", unavailable(nil)
	default:
		return "", event.NewError(event.CodeNotFound, "no feature flag has this key", "check the spelling of the key", nil)
	}
	v := flag.Value{Enabled: f.Enabled}
	if f.Enabled {
		v.Variant = f.Variant
	}
	if c.flagsSent.first(event.CleanValue(a.user) + "\x00" + key + "\x00" + v.String() + "\x00" + string(question)) {
		c.Capture(ctx, "$feature_flag_called", Properties{"$feature_flag": key, "$feature_flag_response": v.Any(), "$feature/" + key: v.Any(),
			"locally_evaluated": false, "$feature_flag_reason": f.Reason.Description, "$feature_flag_request_id": answer.RequestID})
	}
	return v.String(), nil
}

// flagsSent remembers the flag calls that were captured.
type flagsSent struct {
	mu   sync.Mutex
	seen map[string]struct{}
}

// first reports whether key is new, and remembers it. When full it starts over:
// PostHog deduplicates repeated calls.
func (t *flagsSent) first(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.seen[key]; ok {
		return false
	}
	if t.seen == nil || len(t.seen) >= maxFlagsSent {
		t.seen = make(map[string]struct{})
	}
	t.seen[key] = struct{}{}
	return true
}
