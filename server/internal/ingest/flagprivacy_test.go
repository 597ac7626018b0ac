package ingest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// privateHandler is a handler with a connection in privacy mode that allows one
// property.
func privateHandler(t *testing.T) (*ingest.Handler, *upstream) {
	u := &upstream{}
	h, _ := newHandler(t, ingest.Config{
		Flags: u,
		FlagRequest: func(_ project.Connection, asked map[string]json.RawMessage) map[string]json.RawMessage {
			return privacy.FlagRequest(asked, []string{"bio"})
		},
		FlagQuery: func(_ project.Connection, query map[string][]string) map[string][]string {
			return privacy.FlagQuery(query)
		},
	})
	u.says(200, `{"flags":{}}`)
	return h, u
}

// In privacy mode, a flag request contains only what PostHog needs to evaluate
// flags.
func TestFlagQuestionInPrivacyMode(t *testing.T) {
	const secret = "what the patient said to the doctor"
	long := secret + strings.Repeat(" and again", 20)
	token := `"token":"` + settings.def.Token + `"`
	for _, c := range []struct{ name, asks, want string }{
		{"what SDKs send", `{` + token + `,"distinct_id":"d 1","$anon_distinct_id":"a","$device_id":"v","groups":{"company":"acme","n":7},"person_properties":{"plan":"pro","age":7,"beta":true,"$initial_utm_source":"mail","$browser":"Chrome","gone":null},
			"group_properties":{"company":{"name":"Acme","size":10}},"geoip_disable":true,"disable_flags":false,"timezone":"Europe/Berlin","flag_keys_to_evaluate":["a","b"],"evaluation_contexts":["web"],"evaluation_runtime":"client"}`,
			`{"$anon_distinct_id":"a","$device_id":"v","disable_flags":false,"distinct_id":"d 1","evaluation_contexts":["web"],"evaluation_runtime":"client","flag_keys_to_evaluate":["a","b"],"geoip_disable":true,"group_properties":{"company":{"name":"Acme","size":10}},"groups":{"company":"acme","n":7},"person_properties":{"$browser":"Chrome","$initial_utm_source":"mail","age":7,"beta":true,"gone":null,"plan":"pro"},"timezone":"Europe/Berlin","token":"` + posthogKey + `"}`},
		{"empty objects", `{"api_key":"` + settings.def.Token + `","distinct_id":"d","groups":{},"person_properties":{},"group_properties":{}}`, `{"distinct_id":"d","group_properties":{},"groups":{},"person_properties":{},"token":"` + posthogKey + `"}`},
		{"other names", `{"$token":"` + settings.def.Token + `","$distinct_id":"d","$groups":{"a":"b"},"$properties":{"p":1}}`, `{"distinct_id":"d","groups":{"a":"b"},"person_properties":{"p":1},"token":"` + posthogKey + `"}`},
		{"unknown members", `{` + token + `,"distinct_id":"d","messages":[{"content":"` + secret + `"}],"prompt":"` + secret + `","note":"` + secret + `"}`, `{"distinct_id":"d","token":"` + posthogKey + `"}`},
		{"content as properties", `{` + token + `,"distinct_id":"d","person_properties":{"a":"` + long + `","b":"` + secret + `\nsaid","c":{"x":"` + secret + `"},"d":["` + secret + `"],"prompt":"` + secret + `","` + long + `":1,"ok":1},"group_properties":{"company":{"a":"` + long + `","b":2},"` + long + `":{"b":3},"x":"` + secret + `"}}`,
			`{"distinct_id":"d","group_properties":{"company":{"b":2}},"person_properties":{"ok":1},"token":"` + posthogKey + `"}`},
		{"known members of other kinds", `{` + token + `,"distinct_id":"d","groups":{"a":{"x":"` + secret + `"},"b":"` + long + `"},"timezone":{"x":"` + secret + `"},"geoip_disable":"` + secret + `","flag_keys_to_evaluate":"` + secret + `","evaluation_contexts":["` + long + `"],"person_properties":"` + secret + `"}`,
			`{"distinct_id":"d","groups":{},"token":"` + posthogKey + `"}`},
		{"named", `{` + token + `,"distinct_id":"d","person_properties":{"bio":"` + long + `"}}`, `{"distinct_id":"d","person_properties":{"bio":"` + long + `"},"token":"` + posthogKey + `"}`},
	} {
		for _, path := range []string{"/flags/?v=2", "/decide/?v=3"} {
			h, u := privateHandler(t)
			w := call(h, "POST", path, []byte(c.asks))
			if w.Code != 200 {
				t.Fatalf("%s: %d %s", c.name, w.Code, w.Body)
			}
			if _, got := u.last(t); got != c.want {
				t.Errorf("%s %s: asked\n%s\nwant\n%s", path, c.name, got, c.want)
			}
		}
	}
}

// The query of relayed requests has known names and single words.
func TestRelayedQueryInPrivacyMode(t *testing.T) {
	h, u := privateHandler(t)
	const noise = "&x=what+he+said&ver=what+he+said&send_cohorts="
	for _, c := range []struct{ method, target, body, want string }{
		{"POST", "/flags/?v=2&config=true", `{"token":"` + settings.def.Token + `","distinct_id":"d"}`, "config=true&send_cohorts=&v=2"},
		{"GET", "/flags/definitions?token=" + settings.def.Token, "", "send_cohorts=&token=" + posthogKey},
		{"GET", "/api/early_access_features/?token=" + settings.def.Token + "&stage=beta&stage=alpha", "", "send_cohorts=&stage=beta&stage=alpha&token=" + posthogKey},
		{"GET", "/api/projects/@current/feature_flags/a/remote_config?token=" + settings.def.Token, "", "send_cohorts=&token=" + posthogKey},
	} {
		w := call(h, c.method, c.target+noise, []byte(c.body), "Authorization", "Bearer "+personalKey)
		if r, _ := u.last(t); w.Code != http.StatusOK || r.URL.RawQuery != c.want {
			t.Errorf("%s: %d, asked %s", c.target, w.Code, r.URL)
		}
	}
}

// Ids under PostHog's other names are hashed too.
func TestHashedIDsUnderOtherNames(t *testing.T) {
	u := &upstream{}
	h, _ := newHandler(t, ingest.Config{Flags: u, OutboundID: func(_ project.Connection, id string) string { return "hash-of-" + id }, Personal: func(name string) bool { return name == "email" }})
	u.says(200, `{"flags":{}}`)
	call(h, "POST", "/flags/?v=2", []byte(`{"$token":"`+settings.def.Token+`","$distinct_id":"ada","$properties":{"email":"ada@example.com","plan":"pro"}}`))
	if _, got := u.last(t); got != `{"distinct_id":"hash-of-ada","geoip_disable":true,"person_properties":{"plan":"pro"},"token":"`+posthogKey+`"}` {
		t.Error(got)
	}
}
