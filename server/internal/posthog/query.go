package posthog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// AppHost returns the host of PostHog's pages and private API for an ingestion
// host: the same for self-hosted ones. It is not known for an ingestion host
// behind the user's own proxy.
func AppHost(host string) string {
	u, err := url.Parse(host)
	if err != nil {
		return host
	}
	if name, ok := strings.CutSuffix(u.Host, ".i.posthog.com"); ok && !strings.Contains(name, ".") {
		return u.Scheme + "://" + strings.TrimSuffix(name, "-assets") + ".posthog.com"
	}
	return host
}

// QueryOptions of one question.
type QueryOptions struct {
	Name    string         // shown in PostHog's query log
	Values  map[string]any // for placeholders such as {since}
	AppHost string         // Defaults to [AppHost] of the connection's host

	Client             ClientConfig
	AllowInsecureHosts bool
	Version            string
}

// Rows are PostHog's answer, rows in the order of Columns.
type Rows struct {
	Columns     []string            `json:"columns"`
	Results     [][]json.RawMessage `json:"results"`
	Cached      bool                `json:"is_cached"`
	LastRefresh time.Time           `json:"last_refresh"`
}

const maxRows = 64 << 20 // bytes of an answer to a query

// Query runs a HogQL query in the connection's project, with its personal key.
// Without a LIMIT PostHog returns 100 rows; a team may run 240 queries a minute
// and 3 concurrently. The error is an [*event.Error]; after too many queries its
// hint has the time to wait.
func Query(ctx context.Context, conn project.Connection, hogql string, o QueryOptions) (Rows, error) {
	if conn.PersonalKey.IsZero() {
		return Rows{}, event.Invalid("the connection has no personal key", "create one in PostHog (Settings, Personal API keys) with the scope Query Read and set it as POSTHOG_PERSONAL_API_KEY")
	}
	host := appHost(conn, o.AppHost)
	if err := CheckHost(host, o.AllowInsecureHosts, o.Client.AllowHosts); err != nil {
		return Rows{}, err
	}
	c := newCaller(o.Client, o.AllowInsecureHosts, o.Version)
	defer c.http.CloseIdleConnections()
	a, err := c.query(ctx, conn, hogql, o)
	if err != nil {
		t := explain(err, host)
		code := event.CodeUpstream
		if t.code == "timeout" {
			code = event.CodeTimeout
		}
		return Rows{}, event.NewError(code, t.message, t.hint, err)
	}
	var rows Rows
	switch {
	case a.status == http.StatusOK:
		if json.Unmarshal(a.body, &rows) != nil || rows.Results == nil {
			return Rows{}, event.NewError(event.CodeUpstream, "PostHog's answer cannot be read", "see whether the host is PostHog's", nil)
		}
		return rows, nil
	case a.status == http.StatusBadRequest:
		return Rows{}, event.Invalid("PostHog does not accept the query"+detail(a.body), "")
	case a.status == http.StatusTooManyRequests:
		hint := "try again in a minute"
		if a.retryAfter > 0 {
			hint = fmt.Sprintf("try again in %v", a.retryAfter.Round(time.Second))
		}
		return Rows{}, event.NewError(event.CodeRateLimited, "PostHog allows no more queries for now", hint, nil)
	case a.status == http.StatusGatewayTimeout:
		return Rows{}, event.NewError(event.CodeTimeout, "the query took PostHog too long", "choose a shorter time range", nil)
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden, a.status == http.StatusNotFound:
		ck := personalCheck(a, host)
		code := event.CodeForbidden
		if a.status == http.StatusNotFound {
			code = event.CodeNotFound
		}
		return Rows{}, event.NewError(code, ck.Message, ck.Hint, nil)
	}
	return Rows{}, event.NewError(event.CodeUpstream, fmt.Sprintf("PostHog answers %d to the query", a.status), "", nil)
}

// detail quotes the error of PostHog's API: it is about the query, which is
// hedgerow's or the user's own.
func detail(body []byte) string {
	var in struct {
		Detail string `json:"detail"`
	}
	if json.Unmarshal(body, &in) != nil || in.Detail == "" {
		return ""
	}
	if r := []rune(in.Detail); len(r) > 300 {
		in.Detail = string(r[:300]) + "…"
	}
	return ": " + in.Detail
}

func appHost(conn project.Connection, override string) string {
	if override != "" {
		return strings.TrimRight(override, "/")
	}
	return AppHost(conn.Host)
}

// caller makes single requests to PostHog.
type caller struct {
	http    *http.Client
	timeout time.Duration
	agent   string
	version string
}

func newCaller(c ClientConfig, insecure bool, version string) *caller {
	c.defaults()
	return &caller{newHTTPClient(c, insecure), c.Timeout, agentOf(version), version}
}

// query posts a query. @current is pinned to the project that events go to.
func (c *caller) query(ctx context.Context, conn project.Connection, hogql string, o QueryOptions) (answer, error) {
	in := map[string]any{"query": map[string]any{"kind": "HogQLQuery", "query": hogql, "values": nonNil(o.Values)}, "refresh": "blocking"}
	if o.Name != "" {
		in["name"] = o.Name
	}
	to := appHost(conn, o.AppHost) + "/api/projects/@current/query/?token=" + url.QueryEscape(conn.ProjectKey.Reveal())
	return c.post(ctx, to, conn.PersonalKey, in, maxRows)
}

func nonNil(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// post sends JSON, with a key in the header if there is one.
func (c *caller) post(ctx context.Context, to string, bearer project.Secret, in any, limit int64) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return answer{}, fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return answer{}, fmt.Errorf("make request: %w", withoutURL(err))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", c.agent)
	if !bearer.IsZero() {
		req.Header.Set("Authorization", "Bearer "+bearer.Reveal())
	}
	return do(c.http, req, limit, time.Now())
}
