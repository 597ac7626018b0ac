package hedgerow

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
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
// A 502 or 504 is retried twice. options describe the user further; the last one is
// used.
//
// Pass the value to [WithFlag] to attribute the calls that follow to it.
func (c *Client) Flag(ctx context.Context, key string, options ...FlagOptions) (string, error) {
	a := attributionOf(ctx)
	switch {
	case !c.Enabled():
		return "", event.NewError(event.CodeUnavailable, "flags cannot be evaluated: the client is disabled", "set Config.APIKey", nil)
	case key == "":
		return "", event.Invalid("the flag key is empty", "set the flag key")
	case a == nil || event.CleanValue(a.user) == "":
		return "", event.Invalid("the context has no user for the flag", "use WithUser")
	}
	var o FlagOptions
	if len(options) > 0 {
		o = options[len(options)-1]
	}
	person, groups := Properties{}, map[string]Properties{}
	maps.Copy(person, o.PersonProperties)
	if o.DeviceID != "" {
		person["$device_id"] = o.DeviceID
	}
	maps.Copy(groups, o.GroupProperties)
	question, err := json.Marshal(map[string]any{"token": c.c.APIKey, "distinct_id": event.CleanValue(a.user), "groups": merged(a.groups, nil),
		"person_properties": person, "group_properties": groups, "geoip_disable": o.DisableGeoIP, "flag_keys_to_evaluate": []string{key}})
	if err != nil {
		return "", fmt.Errorf("encode flag request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, flagTimeout)
	defer cancel()
	unavailable := func(err error) error {
		return event.NewError(event.CodeUnavailable, "the flag request failed", "check that the client's host is correct and reachable", err)
	}
	body, err := c.requestFlags(ctx, question)
	if err != nil {
		return "", unavailable(err)
	}
	var response struct {
		Flags        map[string]flagResponse
		FeatureFlags map[string]any // the older form: a boolean or the variant
		Errors       bool           `json:"errorsWhileComputingFlags"`
		RequestID    string
	}
	if err := json.Unmarshal(body, &response); err != nil {
		return "", unavailable(err)
	}
	f, ok := response.Flags[key]
	if old, older := response.FeatureFlags[key]; !ok && older {
		ok = true
		f.Variant, f.Enabled = old.(string)
		if b, isBool := old.(bool); isBool {
			f.Enabled = b
		}
	}
	switch {
	case ok && !f.Failed:
	case response.Errors || f.Failed:
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
			"locally_evaluated": false, "$feature_flag_reason": f.Reason.Description, "$feature_flag_request_id": response.RequestID})
	}
	return v.String(), nil
}

// FlagOptions describe the user of a flag request in addition to the context.
type FlagOptions struct {
	// PersonProperties and GroupProperties (by group type) override what PostHog has
	// stored, for this evaluation.
	PersonProperties Properties
	GroupProperties  map[string]Properties

	// DeviceID is the user's device, for flags that are rolled out by device.
	// It is sent as the person property $device_id.
	DeviceID string

	// DisableGeoIP keeps PostHog from deriving location properties from the address
	// of the request, which is the server's.
	DisableGeoIP bool
}

// flagResponse is a flag in the response of /flags?v=2.
type flagResponse struct {
	Enabled bool
	Variant string
	Failed  bool
	Reason  struct{ Description string }
}

// flagRetries are the delays before a flag request is retried.
var flagRetries = [...]time.Duration{100 * time.Millisecond, 300 * time.Millisecond}

// requestFlags sends a flag request and returns the response body.
func (c *Client) requestFlags(ctx context.Context, question []byte) ([]byte, error) {
	for try := 0; ; try++ {
		status, body, err := c.requestFlagsOnce(ctx, question)
		switch {
		case err != nil:
			return nil, err
		case status == http.StatusOK:
			return body, nil
		case status != http.StatusBadGateway && status != http.StatusGatewayTimeout || try == len(flagRetries):
			return nil, fmt.Errorf("status %d", status)
		}
		wait := time.NewTimer(flagRetries[try])
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil, fmt.Errorf("status %d: %w", status, ctx.Err())
		}
	}
}

func (c *Client) requestFlagsOnce(ctx context.Context, question []byte) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.c.Host+"/flags/?v=2", bytes.NewReader(question))
	if err != nil {
		return 0, nil, fmt.Errorf("create flag request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", libName+"/"+Version)
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("send flag request: %w", err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(io.LimitReader(resp.Body, 4<<20)); err != nil {
		return 0, nil, fmt.Errorf("read flag response: %w", err)
	}
	return resp.StatusCode, body, nil
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
