package ingest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// ownHandler is a handler with two flags that hedgerow evaluates: one is on for
// all users, with a variant for each half, and one is off.
func ownHandler(t *testing.T, set func(*ingest.Config)) (*ingest.Handler, *upstream) {
	u := &upstream{}
	half := flag.Split("support-prompt", 100, []flag.Variant{{Key: "control", Rollout: 50}, {Key: "treatment", Rollout: 50}})
	off := flag.Split("stopped", 100, []flag.Variant{{Key: "control", Rollout: 100}})
	off.Active = false
	c := ingest.Config{Flags: u, OwnFlags: func(string) []flag.Definition { return []flag.Definition{half, off} }}
	if set != nil {
		set(&c)
	}
	h, _ := newHandler(t, c)
	return h, u
}

// ask requests the flags of a user.
func ask(t *testing.T, h *ingest.Handler, target, token, user, more string) map[string]any {
	t.Helper()
	w := call(h, "POST", target, []byte(`{"token":"`+token+`","distinct_id":"`+user+`"`+more+`}`))
	if w.Code != 200 {
		t.Fatalf("%s: %d %s", target, w.Code, w.Body)
	}
	return objectIn(t, w.Body.Bytes())
}

func TestOwnFlagsWithoutPostHog(t *testing.T) {
	h, _ := ownHandler(t, nil)
	variants := map[any]int{}
	for i := range 40 {
		user := fmt.Sprint("user-", i)
		v := ask(t, h, "/flags/?v=2", settings.bare.Token, user, "")
		f := v["flags"].(map[string]any)["support-prompt"].(map[string]any)
		want := "control"
		if flag.Hash("support-prompt", user, "variant") >= 0.5 {
			want = "treatment"
		}
		if f["key"] != "support-prompt" || f["enabled"] != true || f["variant"] != want || f["reason"].(map[string]any)["code"] != "condition_match" || v["errorsWhileComputingFlags"] != false {
			t.Fatalf("%s: %v, want %s", user, f, want)
		}
		variants[f["variant"]]++
		if off := v["flags"].(map[string]any)["stopped"].(map[string]any); off["enabled"] != false || off["variant"] != nil || off["reason"].(map[string]any)["code"] != "flag_disabled" {
			t.Fatalf("%v", off)
		}
		older := ask(t, h, "/decide/?v=3", settings.bare.Token, user, "")["featureFlags"].(map[string]any)
		if older["support-prompt"] != want || older["stopped"] != false {
			t.Fatalf("%v", older)
		}
	}
	if len(variants) != 2 {
		t.Errorf("%v", variants)
	}
	if list := ask(t, h, "/decide/", settings.bare.Token, "user-1", "")["featureFlags"]; fmt.Sprint(list) != "[support-prompt]" {
		t.Errorf("%v", list)
	}
	if some := ask(t, h, "/flags/?v=2", settings.bare.Token, "user-1", `,"flag_keys_to_evaluate":["stopped"]`)["flags"].(map[string]any); len(some) != 1 || some["stopped"] == nil {
		t.Errorf("%v", some)
	}
	if v := objectIn(t, call(h, "GET", "/array/"+settings.bare.Token+"/config", nil).Body.Bytes()); v["hasFeatureFlags"] != true {
		t.Errorf("%v", v)
	}
}

// PostHog's flags are unchanged and hedgerow's are added; if both have a flag
// with the same key, PostHog's is used.
func TestOwnFlagsBesidePostHog(t *testing.T) {
	h, u := ownHandler(t, nil)
	u.says(200, `{"flags":{"beta":{"key":"beta","enabled":true},"stopped":{"key":"stopped","enabled":true,"variant":"theirs"}},"errorsWhileComputingFlags":false}`)
	flags := ask(t, h, "/flags/?v=2", settings.def.Token, "ada", "")["flags"].(map[string]any)
	if len(flags) != 3 || flags["beta"].(map[string]any)["enabled"] != true || flags["stopped"].(map[string]any)["variant"] != "theirs" || flags["support-prompt"].(map[string]any)["enabled"] != true {
		t.Errorf("%v", flags)
	}
	u.breaks()
	v := ask(t, h, "/flags/?v=2", settings.def.Token, "eve", "")
	if flags := v["flags"].(map[string]any); v["errorsWhileComputingFlags"] != true || len(flags) != 2 {
		t.Errorf("%v", v)
	}

	u.says(200, `{"flags":[{"id":7,"key":"beta","active":true,"filters":{"groups":[]}},{"id":8,"key":"stopped","active":true,"filters":{"groups":[]}}],"group_type_mapping":{"0":"company"},"cohorts":{}}`)
	target := "/flags/definitions?token=" + settings.def.Token
	w := call(h, "GET", target, nil, "Authorization", "Bearer "+personalKey)
	set, err := flag.Parse(w.Body.Bytes())
	if err != nil || w.Code != 200 || len(set.Flags) != 3 || set.GroupTypes["0"] != "company" {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if d, _ := set.Definition("stopped"); d.ID != 8 {
		t.Errorf("%+v", d)
	}
	if v, err := set.Evaluate("support-prompt", flag.User{DistinctID: "ada", Now: now}); err != nil || !v.Enabled {
		t.Errorf("%v %v", v, err)
	}
	etag := w.Header().Get("ETag")
	if etag == `"v1"` || call(h, "GET", target, nil, "Authorization", "Bearer "+personalKey, "If-None-Match", etag).Code != 304 {
		t.Errorf("etag %s", etag)
	}
}

// Percentages require the right to read the project.
func TestOwnDefinitionsNeedAKey(t *testing.T) {
	h, _ := ownHandler(t, func(c *ingest.Config) { c.Flags = nil })
	target := "/api/feature_flag/local_evaluation/?token=" + settings.def.Token
	for key, want := range map[string]int{"": 0, personalKey: 0, settings.viewer: 2} {
		w := call(h, "GET", target, nil, "Authorization", "Bearer "+key)
		if set, err := flag.Parse(w.Body.Bytes()); err != nil || len(set.Flags) != want || w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

// For a connection that hashes ids, flag requests contain the hash and nothing
// else that identifies the user.
func TestFlagsOfHashedIDs(t *testing.T) {
	h, u := ownHandler(t, func(c *ingest.Config) {
		c.OutboundID = func(_ project.Connection, id string) string { return "hash-of-" + id }
		c.Personal = func(name string) bool { return name == "email" }
	})
	u.says(200, `{"flags":{}}`)
	w := call(h, "POST", "/flags/?v=2", []byte(`{"token":"`+settings.def.Token+`","distinct_id":"ada","$anon_distinct_id":"anon-7","person_properties":{"distinct_id":"ada","email":"ada@example.com","plan":"pro"}}`), "X-Forwarded-For", "203.0.113.9")
	if w.Code != 200 || !strings.Contains(w.Body.String(), "support-prompt") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	r, body := u.last(t)
	var asked struct {
		DistinctID string            `json:"distinct_id"`
		Anon       string            `json:"$anon_distinct_id"`
		Person     map[string]string `json:"person_properties"`
		NoGeo      bool              `json:"geoip_disable"`
	}
	decode(t, []byte(body), &asked)
	if asked.DistinctID != "hash-of-ada" || asked.Anon != "hash-of-anon-7" || fmt.Sprint(asked.Person) != "map[distinct_id:hash-of-ada plan:pro]" || !asked.NoGeo || r.Header.Get("X-Forwarded-For") != "" {
		t.Errorf("%s %v", body, r.Header)
	}
	// SDKs that know the plain ids must not evaluate PostHog's flags
	// themselves.
	u.says(200, `{"flags":[{"id":7,"key":"beta","active":true,"filters":{"groups":[]}}],"group_type_mapping":{},"cohorts":{}}`)
	w = call(h, "GET", "/flags/definitions?token="+settings.def.Token, nil, "Authorization", "Bearer "+personalKey)
	set, err := flag.Parse(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if d, _ := set.Definition("beta"); !d.Continuity {
		t.Errorf("%s", w.Body)
	}
	if d, ok := set.Definition("support-prompt"); !ok || d.Continuity {
		t.Errorf("%s", w.Body)
	}
}

// A response in an unknown form is unchanged.
func TestOwnFlagsLeaveWhatTheyDoNotKnow(t *testing.T) {
	for _, response := range []string{`[]`, `{"flags":[1]}`, `{"flags":null,"featureFlags":7}`, `{"other":1}`} {
		h, u := ownHandler(t, func(c *ingest.Config) { c.Now = func() time.Time { return now } })
		u.says(200, response)
		w := call(h, "POST", "/flags/?v=2", []byte(`{"token":"`+settings.def.Token+`","distinct_id":"ada"}`))
		var got, want any
		if json.Unmarshal(w.Body.Bytes(), &got) != nil || json.Unmarshal([]byte(response), &want) != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s became %s", response, w.Body)
		}
	}
}
