package hedgerow_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/hedgerow/hedgerow"
)

// TestFlagCompliance has the /flags cases of PostHog's SDK compliance harness:
// the request, both forms of the response, and retries.
func TestFlagCompliance(t *testing.T) {
	type answer struct {
		status int
		body   string
	}
	old := answer{200, `{"featureFlags":{"on":true,"off":false,"choice":"b"}}`}
	for name, c := range map[string]struct {
		key      string
		options  []hedgerow.FlagOptions
		answers  []answer
		value    string
		failed   bool
		requests int
		sent     map[string]any // of the last request
	}{
		"defaults":            {key: "on", answers: []answer{old}, value: "true", requests: 1, sent: map[string]any{"token": "phc_test", "distinct_id": "u", "geoip_disable": false, "group_properties": map[string]any{}, "person_properties": map[string]any{}, "groups": map[string]any{"company": "acme"}, "flag_keys_to_evaluate": []any{"on"}}},
		"device and groups":   {key: "on", options: []hedgerow.FlagOptions{{DeviceID: "d1", DisableGeoIP: true, PersonProperties: hedgerow.Properties{"plan": "pro"}, GroupProperties: map[string]hedgerow.Properties{"company": {"plan": "enterprise"}}}}, answers: []answer{old}, value: "true", requests: 1, sent: map[string]any{"geoip_disable": true, "person_properties": map[string]any{"$device_id": "d1", "plan": "pro"}, "group_properties": map[string]any{"company": map[string]any{"plan": "enterprise"}}}},
		"older form, off":     {key: "off", answers: []answer{old}, value: "false", requests: 1},
		"older form, variant": {key: "choice", answers: []answer{old}, value: "b", requests: 1},
		"older form, missing": {key: "none", answers: []answer{old}, failed: true, requests: 1},
		"newer form":          {key: "on", answers: []answer{{200, `{"flags":{"on":{"enabled":true,"variant":"a"}}}`}}, value: "a", requests: 1},
		"502, then 200":       {key: "on", answers: []answer{{502, ""}, old}, value: "true", requests: 2},
		"504, then 200":       {key: "on", answers: []answer{{504, ""}, old}, value: "true", requests: 2},
		"always 502":          {key: "on", answers: []answer{{502, ""}, {502, ""}, {502, ""}, old}, failed: true, requests: 3},
		"500 is not retried":  {key: "on", answers: []answer{{500, ""}, old}, failed: true, requests: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requests := 0
			var sent map[string]any
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/flags/" {
					return
				}
				b, _ := io.ReadAll(r.Body)
				if err := json.Unmarshal(b, &sent); err != nil || r.URL.Query().Get("v") != "2" || r.Header.Get("Authorization") != "" {
					t.Errorf("%s %s: %v", r.URL, b, err)
				}
				a := c.answers[min(requests, len(c.answers)-1)]
				requests++
				w.WriteHeader(a.status)
				_, _ = io.WriteString(w, a.body)
			}))
			t.Cleanup(srv.Close)
			client, err := hedgerow.New(hedgerow.Config{APIKey: "phc_test", Host: srv.URL})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Close(context.Background()) })
			ctx := hedgerow.WithGroups(hedgerow.WithUser(context.Background(), "u"), map[string]string{"company": "acme"})
			value, err := client.Flag(ctx, c.key, c.options...)
			if value != c.value || (err != nil) != c.failed || requests != c.requests {
				t.Errorf("%q, %v after %d requests", value, err, requests)
			}
			for k, want := range c.sent {
				if !reflect.DeepEqual(sent[k], want) {
					t.Errorf("%s is %v, want %v", k, sent[k], want)
				}
			}
		})
	}
}
