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

// flagTimeout bounds a question for a flag; PostHog's own SDKs wait no longer.
const flagTimeout = 3 * time.Second

// maxFlagsTold bounds how many users and flags are remembered as told.
const maxFlagsTold = 50_000

// Flag returns a feature flag's value for the user of the context ([WithUser],
// [WithGroups]): "true", "false" or a variant's name. It asks the host of the
// client, a hedgerow or PostHog, each time; on an error the caller decides by
// itself. That the user met the flag is captured as $feature_flag_called, once for
// each value.
//
// Give what it returned to [WithFlag], so that the calls that follow bear it.
func (c *Client) Flag(ctx context.Context, key string) (string, error) {
	a := attributionOf(ctx)
	switch {
	case !c.Enabled():
		return "", event.NewError(event.CodeUnavailable, "no flags can be asked for: the client is disabled", "give it a key", nil)
	case key == "":
		return "", event.Invalid("the flag has no key", "name the flag")
	case a == nil || event.CleanValue(a.user) == "":
		return "", event.Invalid("a flag is for a user, and the context names none", "use WithUser")
	}
	question, err := json.Marshal(map[string]any{"token": c.c.APIKey, "distinct_id": event.CleanValue(a.user), "groups": merged(a.groups, nil),
		"person_properties": Properties{}, "group_properties": Properties{}, "flag_keys_to_evaluate": []string{key}})
	if err != nil {
		return "", fmt.Errorf("encode the question: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, flagTimeout)
	defer cancel()
	unavailable := func(err error) error {
		return event.NewError(event.CodeUnavailable, "the flag could not be asked for", "check the client's host, and that it can be reached", err)
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
		return "", event.NewError(event.CodeNotFound, "there is no feature flag of this key", "look for a slip in the key", nil)
	}
	v := flag.Value{Enabled: f.Enabled}
	if f.Enabled {
		v.Variant = f.Variant
	}
	if c.told.first(event.CleanValue(a.user) + "\x00" + key + "\x00" + v.String() + "\x00" + string(question)) {
		c.Capture(ctx, "$feature_flag_called", Properties{"$feature_flag": key, "$feature_flag_response": v.Any(), "$feature/" + key: v.Any(),
			"locally_evaluated": false, "$feature_flag_reason": f.Reason.Description, "$feature_flag_request_id": answer.RequestID})
	}
	return v.String(), nil
}

// flagsTold remembers who has met which flag.
type flagsTold struct {
	mu   sync.Mutex
	seen map[string]struct{}
}

// first reports whether key is new, and remembers it. Past its bound it begins
// anew: PostHog takes a repetition for one.
func (t *flagsTold) first(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.seen[key]; ok {
		return false
	}
	if t.seen == nil || len(t.seen) >= maxFlagsTold {
		t.seen = make(map[string]struct{})
	}
	t.seen[key] = struct{}{}
	return true
}
