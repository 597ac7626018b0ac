package posthog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// TestOptions of a connection test.
type TestOptions struct {
	AppHost string // Defaults to [AppHost] of the connection's host

	Client             ClientConfig // a Timeout of zero is 10 s here
	AllowInsecureHosts bool
	Version            string
	Now                func() time.Time
}

// TestResult is the result of a connection test. OK is true if every check
// passed.
type TestResult struct {
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
}

// Check is one check, and a hint if it failed.
type Check struct {
	Name    string `json:"name" jsonschema:"what was looked at: host, project_key, event or personal_key"` // CheckNameHost …
	OK      bool   `json:"ok"`
	Code    string `json:"code"` // one of the Code constants; "ok" where all is well
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty" jsonschema:"what to do"`
}

// The checks of a test, in their order. One that fails keeps those that rely on
// it from being made.
const (
	CheckNameHost        = "host"
	CheckNameProjectKey  = "project_key"
	CheckNameEvent       = "event"
	CheckNamePersonalKey = "personal_key"
)

// Names of checks.
const (
	CodeOK                   = "ok"
	CodeHostInvalid          = "host_invalid"           // not a public https:// address
	CodeHostBlocked          = "host_blocked"           // the name leads to an address that is not public
	CodeDNS                  = "dns"                    // the name is not known
	CodeTLS                  = "tls"                    // no secure connection
	CodeTimeout              = "timeout"                // no answer in time
	CodeUnreachable          = "unreachable"            // no connection
	CodeAppHost              = "app_host"               // PostHog's pages, not its ingestion host
	CodeNotPostHog           = "not_posthog"            // something else answers there
	CodeWrongRegion          = "wrong_region"           // the key is of PostHog's other cloud
	CodeKeyInvalid           = "key_invalid"            // not a project key by its form
	CodePersonalAsProject    = "personal_as_project"    // a personal key in the place of the project key
	CodeKeyUnknown           = "key_unknown"            // well-formed, but of no project
	CodeKeyRefused           = "key_refused"            // PostHog does not take it
	CodeKeyUnverified        = "key_unverified"         // this PostHog does not report it
	CodeEventRefused         = "event_refused"          // the test event was not taken
	CodePostHogTrouble       = "posthog_trouble"        // PostHog answers with its own error
	CodeOverQuota            = "over_quota"             // PostHog takes events and drops them
	CodePersonalRefused      = "personal_refused"       // the personal key is wrong
	CodePersonalScope        = "personal_scope"         // it lacks Query Read
	CodePersonalOtherProject = "personal_other_project" // it does not see the project
	CodePersonalUnverified   = "personal_unverified"    // the private API was not found
)

const testEventName = "hedgerow_connection_test"

// Test checks a connection from end to end: it reaches the host, checks that
// a project has the key, sends a real event named hedgerow_connection_test,
// and runs a query if there is a personal key. It makes up to five requests
// and returns no error: failures are in the result.
func Test(ctx context.Context, conn project.Connection, o TestOptions) TestResult {
	if o.Client.Timeout <= 0 {
		o.Client.Timeout = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &tester{caller: newCaller(o.Client, o.AllowInsecureHosts, o.Version), o: o}
	defer t.http.CloseIdleConnections()
	t.run(ctx, conn)
	return TestResult{OK: !slices.ContainsFunc(t.checks, func(c Check) bool { return !c.OK }), Checks: t.checks}
}

type tester struct {
	*caller
	o      TestOptions
	checks []Check
}

func (t *tester) add(c Check) bool {
	if c.Code == "" {
		c.Code = CodeOK
	}
	t.checks = append(t.checks, c)
	return c.OK
}

func (t *tester) run(ctx context.Context, conn project.Connection) {
	// Checks without network first.
	host, err := project.NormalizeHost(conn.Host, t.o.AllowInsecureHosts, t.o.Client.AllowHosts)
	if err != nil {
		e := event.AsError(err)
		t.add(Check{Name: CheckNameHost, Code: CodeHostInvalid, Message: e.Message, Hint: e.Hint})
		return
	}
	conn.Host = host
	if err := conn.CheckKeys(); err != nil {
		e := event.AsError(err)
		t.add(Check{Name: CheckNameHost, Code: CodeHostInvalid, Message: e.Message, Hint: e.Hint})
		return
	}
	if c, bad := wrongPostHogHost(host); bad {
		t.add(c)
		return
	}
	if c, bad := malformedKey(conn.ProjectKey.Reveal()); bad {
		t.add(c)
		return
	}

	// /flags rejects unknown keys; capture accepts every well-formed one.
	flags, err := t.flags(ctx, host, conn.ProjectKey)
	if err != nil {
		x := explain(err, host)
		t.add(Check{Name: CheckNameHost, Code: x.code, Message: x.message, Hint: x.hint})
		return
	}
	if flags.status >= 300 && flags.status < 400 {
		t.add(redirected(flags, host))
		return
	}
	if known, ok := keyKnown(flags); ok {
		t.add(Check{Name: CheckNameHost, OK: true, Message: hostName(host) + " answers"})
		if !known {
			t.add(t.unknownKey(ctx, host, conn.ProjectKey))
			return
		}
		t.add(Check{Name: CheckNameProjectKey, OK: true, Message: "the key belongs to a project"})
		t.sendEvent(ctx, conn)
	} else {
		// An older or self-hosted PostHog without /flags, or something else:
		// capture reports which.
		a, err := t.capture(ctx, conn)
		c, fine := captureCheck(a, err, host)
		if !fine && (c.Name == CheckNameHost || c.Name == CheckNameProjectKey) {
			t.add(c)
			return
		}
		t.add(Check{Name: CheckNameHost, OK: true, Message: hostName(host) + " answers"})
		t.add(Check{Name: CheckNameProjectKey, OK: true, Code: CodeKeyUnverified,
			Message: fmt.Sprintf("this PostHog does not say whether the key belongs to a project (%d)", flags.status),
			Hint:    "check PostHog's Activity page for the event " + testEventName})
		t.add(c)
	}
	t.personal(ctx, conn)
}

// wrongPostHogHost recognizes PostHog's own hosts that are not for ingestion.
func wrongPostHogHost(host string) (Check, bool) {
	u, err := url.Parse(host)
	if err != nil {
		return Check{}, false
	}
	fail := func(use string) (Check, bool) {
		return Check{Name: CheckNameHost, Code: CodeAppHost, Message: u.Host + " is PostHog's web app, not its ingestion host", Hint: "use " + use}, true
	}
	const us, eu = "https://us.i.posthog.com", "https://eu.i.posthog.com"
	switch u.Hostname() {
	case "us.posthog.com", "us-assets.i.posthog.com", "app-static.posthog.com":
		return fail(us)
	case "eu.posthog.com", "eu-assets.i.posthog.com":
		return fail(eu)
	case "posthog.com", "www.posthog.com", "i.posthog.com":
		return fail(us + " or " + eu + ", depending on your project's region")
	}
	return Check{}, false
}

func malformedKey(key string) (Check, bool) {
	c := Check{Name: CheckNameProjectKey, Code: CodeKeyInvalid, Hint: "copy it from PostHog: Settings → Project → Project token; it starts with phc_"}
	switch {
	case key == "":
		c.Message = "the project key is missing"
	case strings.HasPrefix(key, "phx_"), strings.HasPrefix(key, "phs_"), strings.HasPrefix(key, "pha_"):
		c.Code, c.Message = CodePersonalAsProject, "this is a personal or secret key, not a project key"
		c.Hint += ". Put a personal key in POSTHOG_PERSONAL_API_KEY"
	case !strings.HasPrefix(key, "phc_"):
		c.Message = "this is not a project key"
	default:
		return c, false
	}
	return c, true
}

func (t *tester) flags(ctx context.Context, host string, key project.Secret) (answer, error) {
	return t.post(ctx, host+"/flags/?v=2", project.Secret{}, map[string]any{"token": key.Reveal(), "distinct_id": "hedgerow-connection-test"}, maxAnswer)
}

// keyKnown reads /flags' verdict on the key; ok is false if the answer is not
// from PostHog.
func keyKnown(a answer) (known, ok bool) {
	var in struct {
		Flags  json.RawMessage `json:"flags"`
		Errors json.RawMessage `json:"errorsWhileComputingFlags"`
		Old    json.RawMessage `json:"featureFlags"`
	}
	isJSON := json.Unmarshal(a.body, &in) == nil
	switch {
	case a.status == http.StatusOK:
		ours := isJSON && (in.Flags != nil || in.Errors != nil || in.Old != nil)
		return ours, ours
	case a.status == http.StatusUnauthorized:
		return false, true
	case a.status == http.StatusPaymentRequired: // flags over quota: the key is known
		return true, true
	}
	return false, false
}

// unknownKey finds the owner of a key that is not of this host.
func (t *tester) unknownKey(ctx context.Context, host string, key project.Secret) Check {
	regions := map[string]string{"https://us.i.posthog.com": "US", "https://app.posthog.com": "US", "https://eu.i.posthog.com": "EU"}
	if here, ok := regions[host]; ok {
		other, name := "https://eu.i.posthog.com", "EU"
		if here == "EU" {
			other, name = "https://us.i.posthog.com", "US"
		}
		if a, err := t.flags(ctx, other, key); err == nil {
			if known, ok := keyKnown(a); known && ok {
				return Check{Name: CheckNameProjectKey, Code: CodeWrongRegion,
					Message: fmt.Sprintf("the key belongs to a project in PostHog Cloud %s, but the host is PostHog Cloud %s", name, here), Hint: "set the host to " + other}
			}
		}
	}
	return Check{Name: CheckNameProjectKey, Code: CodeKeyUnknown, Message: "the project key is well-formed, but belongs to no project of this PostHog: events would be lost",
		Hint: "compare it with PostHog: Settings → Project → Project token; it may have been rotated, or belong to another PostHog"}
}

// sendEvent sends the test event.
func (t *tester) sendEvent(ctx context.Context, conn project.Connection) bool {
	a, err := t.capture(ctx, conn)
	c, _ := captureCheck(a, err, conn.Host)
	return t.add(c)
}

func (t *tester) capture(ctx context.Context, conn project.Connection) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	e := &event.Event{UUID: event.NewID(), Name: testEventName, DistinctID: "hedgerow-connection-test", Timestamp: t.o.Now(), Properties: map[string]json.RawMessage{
		"$process_person_profile": json.RawMessage("false"), "$geoip_disable": json.RawMessage("true"),
	}}
	body, err := e.MarshalPostHog(event.Wire{Lib: libName, LibVersion: t.version, IgnoreSentAt: true})
	if err != nil {
		return answer{}, err
	}
	return postBatch(ctx, t.http, conn.Host, batchPath, conn.ProjectKey.Reveal(), t.agent, [][]byte{body}, false, t.o.Now())
}

// captureCheck evaluates capture's answer. Its name is the failing part.
func captureCheck(a answer, err error, host string) (Check, bool) {
	notPostHog := Check{Name: CheckNameHost, Code: CodeNotPostHog, Message: fmt.Sprintf("%s responds, but not like a PostHog ingestion host (%d)", hostName(host), a.status),
		Hint: "use https://us.i.posthog.com, https://eu.i.posthog.com, or the ingestion URL of your own PostHog or proxy"}
	switch {
	case err != nil:
		x := explain(err, host)
		return Check{Name: CheckNameHost, Code: x.code, Message: x.message, Hint: x.hint}, false
	case a.status >= 200 && a.status < 300:
		if isHTML(a.body) {
			return notPostHog, false
		}
		if overQuota(a.body, false) || overQuota(a.body, true) {
			return Check{Name: CheckNameEvent, Code: CodeOverQuota, Message: "PostHog accepts events but drops them: the project is over its quota", Hint: "see Billing in PostHog"}, false
		}
		return Check{Name: CheckNameEvent, OK: true, Message: "the event " + testEventName + " was accepted"}, true
	case a.status >= 300 && a.status < 400:
		return redirected(a, host), false
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		return Check{Name: CheckNameProjectKey, Code: CodeKeyRefused, Message: fmt.Sprintf("PostHog rejects the project key (%d%s)", a.status, quote(a.body)),
			Hint: "copy it from PostHog: Settings → Project → Project token"}, false
	case a.status == http.StatusTooManyRequests, a.status == http.StatusRequestTimeout, a.status >= 500:
		return Check{Name: CheckNameEvent, Code: CodePostHogTrouble, Message: fmt.Sprintf("PostHog responded with %d%s", a.status, quote(a.body)), Hint: "test again later; see status.posthog.com"}, false
	case a.status == http.StatusNotFound, a.status == http.StatusMethodNotAllowed, isHTML(a.body):
		return notPostHog, false
	}
	return Check{Name: CheckNameEvent, Code: CodeEventRefused, Message: fmt.Sprintf("PostHog rejects the test event (%d%s)", a.status, quote(a.body)), Hint: "check whether a proxy between hedgerow and PostHog changes requests"}, false
}

func isHTML(body []byte) bool {
	b := bytes.ToLower(bytes.TrimSpace(body))
	return bytes.HasPrefix(b, []byte("<!doctype")) || bytes.HasPrefix(b, []byte("<html"))
}

// redirected explains a redirect: PostHog's pages send to a login, and hosts in
// clear text to themselves.
func redirected(a answer, host string) Check {
	c := Check{Name: CheckNameHost, Code: CodeNotPostHog, Message: fmt.Sprintf("%s responds with a redirect (%d)", hostName(host), a.status),
		Hint: "use the redirect target, if it is your PostHog's ingestion host"}
	to, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		return c
	}
	switch {
	case strings.HasPrefix(to.Path, "/login"), strings.HasPrefix(to.Path, "/signup"):
		c.Code, c.Message = CodeAppHost, hostName(host)+" is PostHog's web app, not its ingestion host"
		c.Hint = "use the ingestion host: https://us.i.posthog.com or https://eu.i.posthog.com for PostHog's cloud"
	case to.Host != "" && to.Host != hostName(host):
		c.Hint = "it redirects to " + to.Host + ": use that, if it is your PostHog's ingestion host"
	}
	return c
}

// personal runs a query with the personal key, if there is one.
func (t *tester) personal(ctx context.Context, conn project.Connection) {
	key := conn.PersonalKey.Reveal()
	switch {
	case key == "":
		return
	case strings.HasPrefix(key, "phc_"):
		t.add(Check{Name: CheckNamePersonalKey, Code: CodePersonalRefused, Message: "this is a project key, not a personal key",
			Hint: "create a personal API key in PostHog (Settings → Personal API keys) with the scope query:read; it starts with phx_"})
		return
	}
	host := appHost(conn, t.o.AppHost)
	if err := CheckHost(host, t.o.AllowInsecureHosts, t.o.Client.AllowHosts); err != nil {
		e := event.AsError(err)
		t.add(Check{Name: CheckNamePersonalKey, Code: CodeHostInvalid, Message: e.Message, Hint: e.Hint})
		return
	}
	a, err := t.query(ctx, conn, "select 1", QueryOptions{Name: "hedgerow connection test", AppHost: t.o.AppHost})
	if err != nil {
		x := explain(err, host)
		t.add(Check{Name: CheckNamePersonalKey, Code: x.code, Message: x.message, Hint: x.hint})
		return
	}
	t.add(personalCheck(a, host))
}

// personalCheck reads the query API's answer.
func personalCheck(a answer, host string) Check {
	c := Check{Name: CheckNamePersonalKey}
	var in struct {
		Code    string          `json:"code"`
		Detail  string          `json:"detail"`
		Results json.RawMessage `json:"results"`
	}
	isJSON := json.Unmarshal(a.body, &in) == nil
	switch {
	case a.status == http.StatusOK && in.Results != nil:
		c.OK, c.Message = true, "the personal key can read the project"
	case a.status == http.StatusUnauthorized:
		c.Code, c.Message = CodePersonalRefused, "PostHog does not know the personal key"
		c.Hint = "create a new one in PostHog (Settings → Personal API keys) with the scope query:read; US and EU keys are different"
	case a.status == http.StatusForbidden && strings.Contains(in.Detail, "scope"):
		c.Code, c.Message = CodePersonalScope, "the personal key lacks the permission to run queries"
		c.Hint = "add the scope query:read in PostHog: Settings → Personal API keys"
	case a.status == http.StatusForbidden, a.status == http.StatusNotFound && isJSON:
		c.Code, c.Message = CodePersonalOtherProject, "the personal key has no access to the project of the project key"
		c.Hint = "create the key as a member of that project, or give it access to the project"
	case a.status == http.StatusTooManyRequests, a.status >= 500:
		c.Code, c.Message, c.Hint = CodePostHogTrouble, fmt.Sprintf("PostHog responded with %d to a query", a.status), "test again later"
	default:
		// A proxy for ingestion has no private API, but sending works.
		c.OK, c.Code = true, CodePersonalUnverified
		c.Message = fmt.Sprintf("the personal key could not be tested: %s has no query API (%d)", hostName(host), a.status)
		c.Hint = "if the host is your own proxy, reading from PostHog needs PostHog's own URL"
	}
	if c.Code == "" {
		c.Code = CodeOK
	}
	return c
}

// withoutURL removes the URL from an error: its query can contain a key.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
