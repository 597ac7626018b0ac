package e2e

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// pageClient signs in an administrator.
func (p *proc) pageClient(t *testing.T) *http.Client {
	t.Helper()
	h := &hostile{T: t, p: p}
	h.signIn()
	return h.pages
}

// page returns a page's text.
func (p *proc) page(t *testing.T, c *http.Client, path string) string {
	t.Helper()
	res, err := c.Get(p.base + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", path, res.Status, err)
	}
	return string(b)
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// submit posts the form of a page.
func (p *proc) submit(t *testing.T, c *http.Client, page, path string, fields url.Values) {
	t.Helper()
	m := csrfField.FindStringSubmatch(p.page(t, c, page))
	if m == nil {
		t.Fatalf("%s has no form", page)
	}
	fields.Set("csrf", m[1])
	res, err := c.PostForm(p.base+path, fields)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("%s: %s %.300s", path, res.Status, b)
	}
}

// TestUpgradeKeepsKeys starts on a folder of version 3b558a2: API keys have the
// scopes of their roles, provider keys and project tokens work as before, and a
// page shows the scopes of keys until someone has read it. Then a project is
// deleted, with its keys.
func TestUpgradeKeepsKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = []string{"POSTHOG_API_KEY="}
	old := w.unpackOld()
	p := w.start()
	const openaiKey, anthropicKey = "sk-living-openai-0123456789", "sk-living-anthropic-0123456789"
	const claude = `{"model":"claude-sonnet-4.6","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}`
	ask := func(method, path, body string, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, p.base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	check := func(when string) {
		t.Helper()
		for _, k := range []struct{ role, key, may string }{
			{"viewer", old.Viewer, "read"},
			{"member", old.Member, "read write ingest gateway"},
			{"admin", old.Admin, "read write ingest gateway admin"},
			{"first", old.First, "read write ingest gateway admin"},
		} {
			may := strings.Fields(k.may)
			bearer := []string{"Authorization", "Bearer " + k.key}
			for _, r := range []struct {
				scope, method, path, body string
				header                    []string
			}{
				{"read", "GET", "/api/v1/events", "", bearer},
				{"write", "PUT", "/api/v1/prompts/of-" + k.role + "/labels/none", `{"version":1}`, bearer},
				{"ingest", "POST", "/batch/", `{"api_key":"` + k.key + `","batch":[{"event":"upgraded","distinct_id":"d"}]}`, nil},
				{"ingest", "POST", "/api/v1/events", `{"event":"upgraded","distinct_id":"d"}`, bearer},
				{"ingest", "POST", "/v1/traces", "{}", bearer},
				{"gateway", "POST", "/v1/chat/completions", chatBody, bearer},
				{"gateway", "POST", "/v1/messages", claude, []string{"X-Api-Key", k.key, "Anthropic-Version", "2023-06-01"}},
				{"admin", "GET", "/api/v1/projects/default/keys", "", bearer},
			} {
				w.sim.Forget()
				status, answer := ask(r.method, r.path, r.body, r.header...)
				allowed := false
				for _, s := range may {
					allowed = allowed || s == r.scope
				}
				at := when + ", " + k.role + ": " + r.method + " " + r.path
				switch {
				case !allowed && (status != 403 || !strings.Contains(answer, "scope "+r.scope)):
					t.Errorf("%s: %d %s, want 403 naming the scope %s", at, status, answer, r.scope)
				case allowed && (status == 401 || status == 403 || status >= 500):
					t.Errorf("%s: %d %s", at, status, answer)
				case allowed && r.scope != "write" && status/100 != 2:
					t.Errorf("%s: %d %s", at, status, answer)
				}
				if r.scope != "gateway" {
					continue
				}
				want := openaiKey
				if r.path == "/v1/messages" {
					want = anthropicKey
				}
				switch sent := w.sim.Requests(); {
				case !allowed && len(sent) > 0:
					t.Errorf("%s: the provider was called", at)
				case allowed && (len(sent) != 1 || !strings.Contains(sent[0].Header.Get("Authorization")+sent[0].Header.Get("X-Api-Key"), want)):
					t.Errorf("%s: the provider did not get the key that 3b558a2 stored", at)
				}
			}
		}
		if status, answer := ask("POST", "/batch/", `{"api_key":"`+old.Token+`","batch":[{"event":"by the token","distinct_id":"d"}]}`); status != 200 {
			t.Errorf("%s, the project token: %d %s", when, status, answer)
		}
		if status, _ := ask("GET", "/api/v1/events", "", "Authorization", "Bearer "+old.Token); status != 401 && status != 403 {
			t.Errorf("%s, the project token reads: %d", when, status)
		}
	}
	check("after the upgrade")
	w.await(func() bool { return p.hasStored("0192c0de-0000-7000-9000-00000000b001") }, func() string { return "the event from before the upgrade is missing\n" + p.logs() })

	// The page shows once what the keys may do.
	c := p.pageClient(t)
	const notice = "API keys now have scopes"
	text := p.page(t, c, "/p/default/keys")
	for _, line := range []string{notice, "of 3b558a2: viewer", "of 3b558a2: member", "of 3b558a2: admin", "first key", "read, write, ingest, gateway, admin", old.Viewer[:10]} {
		if !strings.Contains(text, line) {
			t.Errorf("the page of keys lacks %q", line)
		}
	}
	p.submit(t, c, "/p/default/keys", "/p/default/keys/scopes", url.Values{})
	if strings.Contains(p.page(t, c, "/p/default/keys"), notice) {
		t.Error("the page shows it again")
	}
	check("after it was read")
	list := w.mustRun("project", "keys")
	for _, line := range []string{"viewer  read ", "member  read, write, ingest, gateway", "admin "} {
		if !strings.Contains(list, line) {
			t.Errorf("the list lacks %q:\n%s", line, list)
		}
	}

	// The second project is deleted, with its keys.
	second := regexp.MustCompile(`p_[a-z0-9]{16}`).FindString(w.mustRun("project", "list"))
	p.submit(t, c, "/p/"+second+"/settings", "/p/"+second+"/delete", url.Values{"confirm": {"second project"}})
	living := []string{"phc_living_connection", "phx_living_personal", openaiKey, anthropicKey, old.AlertSecret}
	onlyLiving(t, "after deleting the project", w.dir, living, 1)
	p.stop()
	p = w.start()
	onlyLiving(t, "after a restart", w.dir, living, 1)
	if strings.Contains(p.page(t, p.pageClient(t), "/p/default/keys"), notice) {
		t.Error("the page shows it again after a restart")
	}
	check("after a restart")
}
