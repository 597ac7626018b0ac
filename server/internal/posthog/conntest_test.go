package posthog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

const unknownKey = "phc_wellformedbutunknown00000000000000000000"

// cloud is PostHog's: two regions that share nothing.
func cloud() (us, eu *simposthog.Server, h hosts) {
	us = simposthog.New(simposthog.Options{})
	eu = simposthog.New(simposthog.Options{Projects: []simposthog.Project{{Token: "phc_european"}}, PersonalKeys: []simposthog.PersonalKey{}})
	return us, eu, hosts{hostUS: us.Transport(), hostEU: eu.Transport(), "https://us.posthog.com": us.Transport(), "https://eu.posthog.com": eu.Transport()}
}

func codes(r TestResult) string {
	var out []string
	for _, c := range r.Checks {
		out = append(out, c.Name+"="+c.Code)
	}
	return strings.Join(out, " ")
}

// checkWords checks that a test result has a usable hint.
func checkWords(t *testing.T, r TestResult) {
	t.Helper()
	ok := true
	for _, c := range r.Checks {
		ok = ok && c.OK
		if c.Message == "" || !c.OK && c.Hint == "" || c.Code == "" {
			t.Errorf("check without words: %+v", c)
		}
		for _, key := range []string{simposthog.Token, simposthog.PersonalKeyValue, unknownKey} {
			if strings.Contains(c.Message+c.Hint, key) {
				t.Errorf("check quotes a key: %+v", c)
			}
		}
	}
	if r.OK != ok {
		t.Errorf("OK is %v, checks %+v", r.OK, r.Checks)
	}
}

func TestConnectionTest(t *testing.T) {
	scoped := simposthog.New(simposthog.Options{PersonalKeys: []simposthog.PersonalKey{
		{Key: "phx_noscope", Scopes: []string{"user:read"}}, {Key: "phx_elsewhere", Scopes: []string{"*"}, Projects: []int{99}}}})
	self := simposthog.New(simposthog.Options{})
	for name, c := range map[string]struct {
		conn func(*project.Connection)
		fail []simposthog.Fault // of the US cloud
		ok   bool
		want string
		says string
	}{
		"fine":              {ok: true, want: "host=ok project_key=ok event=ok"},
		"fine with reading": {conn: personal(simposthog.PersonalKeyValue), ok: true, want: "host=ok project_key=ok event=ok personal_key=ok"},
		"self-hosted":       {conn: on("https://posthog.example.com"), ok: true, want: "host=ok project_key=ok event=ok"},

		"host in clear text": {conn: on("http://us.i.posthog.com"), want: "host=host_invalid"},
		"host private":       {conn: on("https://10.0.0.1"), want: "host=host_invalid"},
		"app host":           {conn: on("https://us.posthog.com"), want: "host=app_host", says: hostUS},
		"app host EU":        {conn: on("https://eu.posthog.com"), want: "host=app_host", says: hostEU},
		"web site":           {conn: on("https://posthog.com"), want: "host=app_host"},
		"region":             {conn: keyed("phc_european"), want: "host=ok project_key=wrong_region", says: hostEU},
		"region the other way": {conn: func(c *project.Connection) { c.Host = hostEU },
			want: "host=ok project_key=wrong_region", says: hostUS},

		"no key":                {conn: keyed(""), want: "project_key=key_invalid"},
		"not a key":             {conn: keyed("sk-something"), want: "project_key=key_invalid"},
		"personal key in place": {conn: keyed("phx_abcdefgh"), want: "project_key=personal_as_project", says: "POSTHOG_PERSONAL_API_KEY"},
		"unknown key":           {conn: keyed(unknownKey), want: "host=ok project_key=key_unknown"},
		"key refused by capture": {fail: []simposthog.Fault{{Path: "/batch", Status: 401, Body: "API key is not valid: revoked"}},
			want: "host=ok project_key=ok project_key=key_refused", says: "API key is not valid"},

		"personal key unknown":      {conn: personal("phx_unknown"), want: "host=ok project_key=ok event=ok personal_key=personal_refused"},
		"personal key is a project": {conn: personal("phc_oops"), want: "host=ok project_key=ok event=ok personal_key=personal_refused"},
		"personal key lacks scope": {conn: func(c *project.Connection) {
			c.Host, c.PersonalKey = "https://scoped.example.com", project.NewSecret("phx_noscope")
		},
			want: "host=ok project_key=ok event=ok personal_key=personal_scope", says: "query:read"},
		"personal key of another project": {conn: func(c *project.Connection) {
			c.Host, c.PersonalKey = "https://scoped.example.com", project.NewSecret("phx_elsewhere")
		}, want: "host=ok project_key=ok event=ok personal_key=personal_other_project"},
		"proxy without private API": {conn: func(c *project.Connection) {
			c.Host, c.PersonalKey = "https://proxy.example.com", project.NewSecret(simposthog.PersonalKeyValue)
		}, ok: true, want: "host=ok project_key=ok event=ok personal_key=personal_unverified"},

		"no flags": {fail: []simposthog.Fault{{Path: "/flags", Status: 404}}, ok: true, want: "host=ok project_key=key_unverified event=ok"},
		"nothing of PostHog": {fail: []simposthog.Fault{{Path: "/flags", Status: 404}, {Path: "/batch", Status: 404}},
			want: "host=not_posthog"},
		"a web page": {fail: []simposthog.Fault{{Path: "/flags", Status: 200, Body: "<!DOCTYPE html><html>"}, {Path: "/batch", Status: 200, Body: "<!DOCTYPE html><html>"}},
			want: "host=not_posthog"},
		"flags and capture refuse": {fail: []simposthog.Fault{{Path: "/flags", Status: 500}, {Path: "/batch", Status: 401}}, want: "project_key=key_refused"},
		"PostHog down inside":      {fail: []simposthog.Fault{{Path: "/batch", Status: 503}}, want: "host=ok project_key=ok event=posthog_trouble"},
		"event refused":            {fail: []simposthog.Fault{{Path: "/batch", Status: 400, Body: secretWord}}, want: "host=ok project_key=ok event=event_refused"},
		"over quota": {fail: []simposthog.Fault{{Path: "/batch", Status: 200, Body: `{"status":1,"quota_limited":["events"]}`}},
			want: "host=ok project_key=ok event=over_quota"},
		"broken connection": {fail: []simposthog.Fault{{Path: "/flags", Reset: true}}, want: "host=unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			us, _, h := cloud()
			h["https://posthog.example.com"], h["https://scoped.example.com"] = self.Transport(), scoped.Transport()
			h["https://proxy.example.com"] = captureOnly{self.Transport()}
			us.Fail(c.fail...)
			conn := connection("c_1")
			if c.conn != nil {
				c.conn(&conn)
			}
			res := Test(t.Context(), conn, TestOptions{Client: ClientConfig{Transport: h}})
			if codes(res) != c.want || res.OK != c.ok {
				t.Errorf("got %s (%v), want %s (%v)", codes(res), res.OK, c.want, c.ok)
			}
			checkWords(t, res)
			if text := fmt.Sprintf("%+v", res); !strings.Contains(text, c.says) || strings.Contains(text, secretWord) {
				t.Errorf("says %s", text)
			}
		})
	}
}

func on(host string) func(*project.Connection) {
	return func(c *project.Connection) { c.Host = host }
}
func keyed(key string) func(*project.Connection) {
	return func(c *project.Connection) { c.ProjectKey = project.NewSecret(key) }
}
func personal(key string) func(*project.Connection) {
	return func(c *project.Connection) { c.PersonalKey = project.NewSecret(key) }
}

// captureOnly is a user's reverse proxy: ingestion passes, all else is its own 404.
type captureOnly struct{ next http.RoundTripper }

func (c captureOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.URL.Path, "/api/") {
		return &http.Response{StatusCode: 404, Header: http.Header{}, Body: nopBody([]byte("<html>not here")), Request: r}, nil
	}
	return c.next.RoundTrip(r)
}

func TestConnectionTestSendsARealEvent(t *testing.T) {
	us, _, h := cloud()
	Test(t.Context(), connection("c_1"), TestOptions{Client: ClientConfig{Transport: h}, Version: "1.2.3"})
	list := us.Named(testEventName)
	if len(list) != 1 || list[0].Text("$process_person_profile") != "false" || list[0].Text("$lib_version") != "1.2.3" || list[0].Text("$ignore_sent_at") != "true" {
		t.Errorf("events %+v", list)
	}
	// An unknown key must not even try: PostHog would answer 200 and lose it.
	conn := connection("c_1")
	conn.ProjectKey = project.NewSecret(unknownKey)
	Test(t.Context(), conn, TestOptions{Client: ClientConfig{Transport: h}})
	if us.Lost() != 0 {
		t.Errorf("%d events lost", us.Lost())
	}
}

func TestConnectionTestOverTheNetwork(t *testing.T) {
	plainSrv := httptest.NewServer(http.NotFoundHandler())
	defer plainSrv.Close()
	tlsSrv := httptest.NewUnstartedServer(http.NotFoundHandler())
	tlsSrv.Config.ErrorLog = log.New(io.Discard, "", 0)
	tlsSrv.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	tlsSrv.StartTLS()
	defer tlsSrv.Close()
	login := httptest.NewServer(http.RedirectHandler("/login?next=/", http.StatusFound))
	defer login.Close()
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that a client disconnects
		<-r.Context().Done()
	}))
	defer silent.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	good := simposthog.Run(t, simposthog.Options{})
	for name, c := range map[string]struct{ host, want string }{
		"unreachable":     {"http://" + closed, "host=unreachable"},
		"not TLS":         {strings.Replace(plainSrv.URL, "http:", "https:", 1), "host=tls"},
		"untrusted":       {tlsSrv.URL, "host=tls"},
		"not PostHog":     {plainSrv.URL, "host=not_posthog"},
		"login page":      {login.URL, "host=app_host"},
		"never answers":   {silent.URL, "host=timeout"},
		"PostHog by HTTP": {good.URL(), "host=ok project_key=ok event=ok personal_key=ok"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := connection("c_1")
			conn.Host, conn.PersonalKey = c.host, project.NewSecret(simposthog.PersonalKeyValue)
			res := Test(t.Context(), conn, TestOptions{AllowInsecureHosts: true, Client: ClientConfig{Timeout: 500 * time.Millisecond}})
			if codes(res) != c.want {
				t.Errorf("got %s, want %s: %+v", codes(res), c.want, res.Checks)
			}
			checkWords(t, res)
		})
	}
}

// failing is a transport that never gets through.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func TestExplain(t *testing.T) {
	for want, err := range map[string]error{
		CodeDNS:         &net.OpError{Op: "dial", Err: &net.DNSError{Name: "us.i.posthg.com", IsNotFound: true}},
		CodeTimeout:     context.DeadlineExceeded,
		CodeUnreachable: errors.New("odd " + simposthog.Token),
		CodeTLS:         &net.OpError{Op: "remote error", Err: tls.AlertError(40)},
	} {
		conn := connection("c_1")
		res := Test(t.Context(), conn, TestOptions{Client: ClientConfig{Transport: failing{err}}})
		if codes(res) != "host="+want {
			t.Errorf("%v: %s, want %s", err, codes(res), want)
		}
		checkWords(t, res)
	}
}

func TestQuery(t *testing.T) {
	us, _, h := cloud()
	us.HandleQuery("hedgerow 7d totals", func(q simposthog.Query) (simposthog.Result, error) {
		if string(q.Values) != `{"days":7}` {
			return simposthog.Result{}, fmt.Errorf("values %s", q.Values)
		}
		return simposthog.Result{Columns: []string{"day", "calls"}, Rows: [][]any{{"2026-11-20", 12}}}, nil
	})
	conn := connection("c_1")
	o := QueryOptions{Name: "hedgerow 7d totals", Values: map[string]any{"days": 7}, Client: ClientConfig{Transport: h}}
	code := func(err error) event.Code {
		if err == nil {
			return ""
		}
		return event.AsError(err).Code
	}
	if _, err := Query(t.Context(), conn, "select 1", o); code(err) != event.CodeInvalid {
		t.Errorf("without a personal key: %v", err)
	}
	conn.PersonalKey = project.NewSecret(simposthog.PersonalKeyValue)
	rows, err := Query(t.Context(), conn, "SELECT day, calls FROM events WHERE timestamp >= now() - {days}", o)
	if err != nil || len(rows.Results) != 1 || string(rows.Results[0][1]) != "12" || rows.Columns[0] != "day" || rows.LastRefresh.IsZero() {
		t.Errorf("%+v, %v", rows, err)
	}
	for want, f := range map[event.Code]simposthog.Fault{
		event.CodeRateLimited: {Status: 429, RetryAfter: "17"}, event.CodeForbidden: {Status: 401}, event.CodeNotFound: {Status: 404, Body: "{}"},
		event.CodeTimeout: {Status: 504}, event.CodeUpstream: {Status: 500}, event.CodeInvalid: {Status: 400, Body: `{"detail":"Unable to resolve field: nope"}`},
	} {
		f.Path = "/api/"
		us.Fail(f)
		_, err := Query(t.Context(), conn, "select 1", o)
		if code(err) != want {
			t.Errorf("status %d: %v, want %s", f.Status, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), simposthog.Token) || strings.Contains(err.Error(), simposthog.PersonalKeyValue)) {
			t.Errorf("the error quotes a key: %v", err)
		}
	}
	o.Client.Transport = failing{errors.New("broken")}
	if _, err := Query(t.Context(), conn, "select 1", o); code(err) != event.CodeUpstream || strings.Contains(err.Error(), simposthog.Token) {
		t.Errorf("unreachable: %v", err)
	}
}

func TestAppHost(t *testing.T) {
	for host, want := range map[string]string{
		hostUS: "https://us.posthog.com", hostEU: "https://eu.posthog.com", "https://us-assets.i.posthog.com": "https://us.posthog.com",
		"https://app.posthog.com": "https://app.posthog.com", "https://posthog.example.com": "https://posthog.example.com", "https://e.example.com/ingest": "https://e.example.com/ingest",
	} {
		if got := AppHost(host); got != want {
			t.Errorf("AppHost(%s) = %s, want %s", host, got, want)
		}
	}
}

func TestRetryAfterForms(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, " 1.5 ": 1500 * time.Millisecond, "-4": 0, "soon": 0, "999999999": time.Hour, "NaN": 0, "Inf": time.Hour,
		"Fri, 20 Nov 2026 12:01:00 GMT": time.Minute, "Fri, 20 Nov 2026 11:00:00 GMT": 0,
	} {
		if got := parseRetryAfter(s, now); got != want {
			t.Errorf("%q = %v, want %v", s, got, want)
		}
	}
}
