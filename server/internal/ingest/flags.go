package ingest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
	"github.com/hedgerow/hedgerow/server/internal/httpbody"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// How long PostHog's responses are cached, so that a polling SDK or a busy page
// costs PostHog one request. Stale ones are used while PostHog is unavailable.
const (
	flagsFresh       = 5 * time.Second
	definitionsFresh = 30 * time.Second
	configFresh      = time.Minute
	keepStale        = time.Hour
)

const (
	relayTimeout     = 3 * time.Second // SDKs wait no longer
	maxRelayResponse = 4 << 20         // bytes of a PostHog response
	maxRelayBody     = 1 << 20         // bytes of a request
	cacheEntries     = 2000
	cacheBytes       = 32 << 20
)

// relay forwards requests to PostHog and caches the responses briefly.
type relay struct {
	http   Doer
	now    func() time.Time
	flight singleflight.Group

	mu    sync.Mutex
	cache map[[sha256.Size]byte]*cachedResponse
	bytes int
}

// cachedResponse is a PostHog response.
type cachedResponse struct {
	status int
	body   []byte
	etag   string
	at     time.Time
}

func newRelay(d Doer, now func() time.Time) *relay {
	return &relay{http: d, now: now, cache: make(map[[sha256.Size]byte]*cachedResponse)}
}

// relayRequest is a request to PostHog.
type relayRequest struct {
	method, url string
	auth        string // the Authorization header
	body        []byte
	ip          string // the client's address, for flags by country
	fresh       time.Duration
}

func (q *relayRequest) key() [sha256.Size]byte {
	h := sha256.New()
	for _, s := range []string{q.method, q.url, q.auth, q.ip} {
		_, _ = io.WriteString(h, s)
		_, _ = h.Write([]byte{0})
	}
	_, _ = h.Write(q.body)
	return [sha256.Size]byte(h.Sum(nil))
}

// ask returns PostHog's response, from the cache while it is fresh. If PostHog does
// not respond or fails, it returns the last good response, or nil.
func (r *relay) ask(ctx context.Context, q relayRequest) *cachedResponse {
	if r.http == nil {
		return nil
	}
	key := q.key()
	r.mu.Lock()
	old := r.cache[key]
	r.mu.Unlock()
	if old != nil && r.now().Sub(old.at) < q.fresh {
		return old
	}
	// The first client may disconnect while others still wait.
	v, _, _ := r.flight.Do(string(key[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), relayTimeout)
		defer cancel()
		a := r.fetch(ctx, q)
		if a != nil && a.status == http.StatusOK {
			r.keep(key, a)
		}
		return a, nil
	})
	a := v.(*cachedResponse)
	if (a == nil || a.status >= 500 || a.status == http.StatusTooManyRequests) && old != nil && r.now().Sub(old.at) < keepStale {
		return old
	}
	if a != nil && a.status >= 500 {
		return nil
	}
	return a
}

func (r *relay) fetch(ctx context.Context, q relayRequest) *cachedResponse {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, bytes.NewReader(q.body))
	if err != nil {
		return nil
	}
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if q.auth != "" {
		req.Header.Set("Authorization", q.auth)
	}
	if q.ip != "" {
		req.Header.Set("X-Forwarded-For", q.ip)
	}
	req.Header.Set("User-Agent", "hedgerow")
	res, err := r.http.Do(req)
	if err != nil {
		return nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxRelayResponse+1))
	if err != nil || len(body) > maxRelayResponse || res.StatusCode >= 300 && res.StatusCode < 400 {
		return nil
	}
	if res.StatusCode == http.StatusOK && !json.Valid(body) {
		return nil // an error page of a proxy
	}
	return &cachedResponse{status: res.StatusCode, body: body, etag: res.Header.Get("ETag"), at: r.now()}
}

// keep caches a response. A full cache evicts old entries first.
func (r *relay) keep(key [sha256.Size]byte, a *cachedResponse) {
	r.mu.Lock()
	defer r.mu.Unlock()
	drop := func(k [sha256.Size]byte) {
		if old := r.cache[k]; old != nil {
			r.bytes -= len(old.body)
			delete(r.cache, k)
		}
	}
	drop(key)
	r.cache[key] = a
	r.bytes += len(a.body)
	if len(r.cache) <= cacheEntries && r.bytes <= cacheBytes {
		return
	}
	// Evict a quarter at once, so that sorting is rare.
	byAge := slices.SortedFunc(maps.Keys(r.cache), func(a, b [sha256.Size]byte) int { return r.cache[a].at.Compare(r.cache[b].at) })
	for _, k := range byAge {
		if k == key || len(r.cache) <= cacheEntries*3/4 && r.bytes <= cacheBytes*3/4 {
			break
		}
		drop(k)
	}
}

// connection returns the PostHog connection of a token: the one whose key it is, or
// else [project.Snapshot.FlagConnection].
func (h *Handler) connection(to target) (project.Connection, bool) {
	if h.relay.http == nil {
		return project.Connection{}, false
	}
	if to.conn != nil {
		return *to.conn, true
	}
	return h.c.Projects().FlagConnection(to.project)
}

// writeAPIError responds as PostHog's flags and private API do.
func (h *Handler) writeAPIError(w http.ResponseWriter, why *httpbody.Refusal) {
	h.Refuse(w.Header(), why)
	kind, code := "validation_error", "invalid_input"
	switch why.Status {
	case http.StatusUnauthorized:
		kind, code = "authentication_error", "invalid_api_key"
	case http.StatusForbidden:
		kind, code = "authentication_error", "permission_denied"
	case http.StatusNotFound:
		kind, code = "invalid_request", "not_found"
	}
	writeJSON(w, why.Status, map[string]any{"type": kind, "code": code, "detail": why.Message, "attr": nil})
}

// serveFlags serves /flags and the older /decide (contract section 6.1).
func (h *Handler) serveFlags(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost && r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET, POST, OPTIONS")
		h.writeAPIError(w, httpbody.Refuse(http.StatusMethodNotAllowed, httpbody.ReasonMethod, "method not allowed"))
		return
	}
	x := exchange{h.Memory.Open(r.Context())}
	defer x.End()
	query := r.URL.Query()
	var raw []byte
	var bad *httpbody.Refusal
	if r.Method == http.MethodPost {
		raw, bad = x.Receive(w, r, maxRelayBody, h.limits.Timeout)
	}
	asked := make(map[string]json.RawMessage)
	if bad == nil && (len(raw) > 0 || query.Get("data") != "") {
		var p payload
		if p, bad = x.readPayload(r, query, raw, maxRelayBody); bad == nil {
			if bad = x.check(p.json); bad == nil {
				for key, v := range rawjson.Members(p.json) {
					asked[keyText(key)] = v
				}
				oneNameEach(asked)
			}
		}
	}
	if bad != nil {
		h.writeAPIError(w, bad)
		return
	}
	token := cmp.Or(rawjson.Text(asked["token"]), query.Get("token"))
	to, bad := h.resolve(token)
	if bad != nil {
		h.writeAPIError(w, bad)
		return
	}
	conn, ok := h.connection(to)
	own := h.decideOwn(h.ownFlags(to.project), asked) // by the unhashed id, as rollouts are
	if !ok {
		h.writeCached(w, &cachedResponse{status: http.StatusOK}, addFlags(h.noFlags(r, token, false), own))
		return
	}
	ip := clientIP(r)
	if h.hashes(conn) {
		h.anonymise(conn, asked)
		ip = ""
	}
	asked = h.c.FlagRequest(conn, asked)
	asked["token"], _ = json.Marshal(conn.ProjectKey.Reveal())
	for _, name := range []string{"data", "compression", "_", "ip", "token"} {
		query.Del(name)
	}
	q := relayRequest{method: http.MethodPost, url: conn.Host + strings.TrimSuffix(r.URL.Path, "/") + "/?" + h.queryFor(conn, query), ip: ip, fresh: flagsFresh}
	q.body, _ = json.Marshal(asked) // sorted keys: equal requests have equal bytes
	switch a := h.relay.ask(r.Context(), q); {
	case a == nil, a.status != http.StatusOK && a.status != http.StatusBadRequest:
		status := 0
		if a != nil {
			status = a.status
		}
		h.Warnings.Warn("flags", "ingest: request for feature flags to PostHog failed; the SDK got errorsWhileComputingFlags", "connection", conn.ID, "status", status)
		h.writeCached(w, &cachedResponse{status: http.StatusOK}, addFlags(h.noFlags(r, token, true), own))
	default:
		h.writeCached(w, a, addFlags(settingsFor(a.body, conn, token), own))
	}
}

// oneNameEach renames members with several names to the first of them. Existing
// members are kept.
func oneNameEach(asked map[string]json.RawMessage) {
	for _, names := range [][]string{
		{"token", "api_key", "$token"}, {"distinct_id", "$distinct_id"}, {"groups", "$groups"}, {"person_properties", "$properties"}, {"group_properties", "$group_properties"},
	} {
		for _, other := range names[1:] {
			if v, ok := asked[other]; ok && rawjson.Text(asked[names[0]]) == "" {
				asked[names[0]] = v
			}
			delete(asked, other)
		}
	}
}

// queryFor returns the query to send to a connection's PostHog.
func (h *Handler) queryFor(c project.Connection, query url.Values) string {
	return url.Values(h.c.FlagQuery(c, query)).Encode()
}

// noFlags is an empty flags response; with failed, SDKs keep their current flags.
func (h *Handler) noFlags(r *http.Request, token string, failed bool) []byte {
	out := map[string]any{"errorsWhileComputingFlags": failed, "requestId": event.NewID(), "evaluatedAt": h.Now().UnixMilli()}
	q := r.URL.Query()
	decide := strings.HasPrefix(r.URL.Path, "/decide")
	switch v := q.Get("v"); {
	case !decide && v == "2" || decide && v == "4":
		out["flags"] = map[string]any{}
	case v == "" || v == "1":
		out["featureFlags"], out["featureFlagPayloads"] = []string{}, map[string]any{}
	default:
		out["featureFlags"], out["featureFlagPayloads"] = map[string]any{}, map[string]any{}
	}
	if decide || q.Get("config") == "true" {
		maps.Copy(out, noSettings(token, failed))
	}
	b, _ := json.Marshal(out) // of plain values
	return b
}

// noSettings is the browser configuration with everything disabled.
func noSettings(token string, hasFlags bool) map[string]any {
	return map[string]any{
		"token": token, "supportedCompression": []string{"gzip", "gzip-js"}, "hasFeatureFlags": hasFlags,
		"sessionRecording": false, "surveys": false, "heatmaps": false, "capturePerformance": false, "captureDeadClicks": false,
		"autocaptureExceptions": false, "autocapture_opt_out": false, "isAuthenticated": false, "toolbarParams": map[string]any{},
		"siteApps": []any{}, "editorParams": map[string]any{}, "defaultIdentifiedOnly": true,
	}
}

// settingsFor adapts PostHog's response to the client: its own token, no session
// recording, which would be discarded here, and both names under which SDKs look for
// an exceeded quota.
func settingsFor(body []byte, conn project.Connection, token string) []byte {
	if !bytes.Contains(body, []byte(`"sessionRecording"`)) && !bytes.Contains(body, []byte(`"token"`)) && !bytes.Contains(body, []byte(`"quota`)) {
		return body
	}
	var v map[string]json.RawMessage
	if json.Unmarshal(body, &v) != nil {
		return body
	}
	if v["sessionRecording"] != nil {
		v["sessionRecording"] = json.RawMessage("false")
	}
	if rawjson.Text(v["token"]) == conn.ProjectKey.Reveal() {
		v["token"], _ = json.Marshal(token)
	}
	const here, there = "quotaLimited", "quota_limited" // posthog-go uses the second
	if v[here] == nil && v[there] != nil {
		v[here] = v[there]
	} else if v[there] == nil && v[here] != nil {
		v[there] = v[here]
	}
	out, err := json.Marshal(v)
	if err != nil {
		return body
	}
	return out
}

func (h *Handler) writeCached(w http.ResponseWriter, a *cachedResponse, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_, _ = w.Write(body)
}

// private is a request that needs authorisation: PostHog's personal key, which
// PostHog checks, or a hedgerow key of the project, which is replaced by the
// personal key of its connection.
type private struct {
	project string
	conn    project.Connection
	auth    string // for PostHog; "" if it cannot be queried
	own     bool   // the request has a hedgerow key of the project
}

func (h *Handler) private(r *http.Request) (p private, bad *httpbody.Refusal) {
	if r.Method != http.MethodGet {
		return p, httpbody.Refuse(http.StatusMethodNotAllowed, httpbody.ReasonMethod, "method not allowed")
	}
	p.auth = r.Header.Get("Authorization")
	_, key, _ := strings.Cut(p.auth, " ")
	key = strings.TrimSpace(key)
	own, ownKey, isOwn := h.c.Projects().ProjectByAPIKey(key)
	if isOwn && !ownKey.May().Has(project.ScopeRead) {
		return p, httpbody.Refuse(http.StatusForbidden, httpbody.ReasonToken, "%s", project.MissingScope(ownKey.May(), project.ScopeRead).Message)
	}
	var to target
	if token := r.URL.Query().Get("token"); token == "" && isOwn {
		to = target{project: own.ID}
	} else if to, bad = h.resolve(token); bad != nil {
		return p, bad
	}
	p.project, p.own = to.project, isOwn && own.ID == to.project
	conn, ok := h.connection(to)
	p.conn = conn
	switch {
	case ok && p.own && !conn.PersonalKey.IsZero():
		p.auth = "Bearer " + conn.PersonalKey.Reveal()
	case !ok || isOwn:
		p.auth = "" // no connection, or no key for it
	case key == "":
		return p, httpbody.Refuse(http.StatusUnauthorized, httpbody.ReasonToken, "send a PostHog personal API key, or a hedgerow key (hr_…), as Authorization: Bearer")
	}
	return p, nil
}

// refusePrivate responds to an unauthorised private request.
func (h *Handler) refusePrivate(w http.ResponseWriter, bad *httpbody.Refusal) {
	if bad.Status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, OPTIONS")
	}
	h.writeAPIError(w, bad)
}

// serveDefinitions serves the definitions for local evaluation (contract section
// 6.2). They are not public.
func (h *Handler) serveDefinitions(w http.ResponseWriter, r *http.Request) {
	p, bad := h.private(r)
	if bad != nil {
		h.refusePrivate(w, bad)
		return
	}
	definitions := h.ownFlags(p.project)
	if p.auth == "" {
		if !p.own {
			definitions = nil // percentages need the right to read the project
		}
		h.writeDefinitions(w, r, addDefinitions([]byte(noDefinitions), definitions, false), "")
		return
	}
	query, conn, auth := r.URL.Query(), p.conn, p.auth
	query.Set("token", conn.ProjectKey.Reveal())
	path := strings.TrimSuffix(r.URL.Path, "/")
	if strings.HasPrefix(path, "/api/") {
		path += "/"
	}
	a := h.relay.ask(r.Context(), relayRequest{method: http.MethodGet, url: conn.Host + path + "?" + h.queryFor(conn, query), auth: auth, fresh: definitionsFresh})
	if a == nil {
		// Not an empty list: SDKs keep their flags when polling fails, and drop
		// them if the list is empty.
		h.writeAPIError(w, httpbody.Refuse(http.StatusServiceUnavailable, httpbody.ReasonUnavailable, "PostHog did not respond: try again"))
		return
	}
	if a.status != http.StatusOK {
		h.writeCached(w, a, a.body)
		return
	}
	out, etag := addDefinitions(a.body, definitions, h.hashes(conn)), a.etag
	if !bytes.Equal(out, a.body) {
		etag = "" // PostHog's covers PostHog's definitions only
	}
	h.writeDefinitions(w, r, out, etag)
}

// writeDefinitions responds with definitions, or with 304. An empty etag is computed
// from the bytes.
func (h *Handler) writeDefinitions(w http.ResponseWriter, r *http.Request, out []byte, etag string) {
	if etag == "" {
		sum := sha256.Sum256(out)
		etag = `"` + hexOf(sum[:12]) + `"`
	}
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.writeCached(w, &cachedResponse{status: http.StatusOK}, out)
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}

// remoteConfig reports whether a path is that of a remote config flag:
// /api/projects/@current/feature_flags/{key}/remote_config.
func remoteConfig(path string) bool {
	rest, ok := strings.CutPrefix(path, "/api/projects/@current/feature_flags/")
	key, ok2 := strings.CutSuffix(rest, "/remote_config")
	return ok && ok2 && key != "" && !strings.Contains(key, "/")
}

// serveRemoteConfig relays it, including encrypted payloads, for server SDKs.
func (h *Handler) serveRemoteConfig(w http.ResponseWriter, r *http.Request) {
	p, bad := h.private(r)
	switch {
	case bad != nil:
		h.refusePrivate(w, bad)
		return
	case p.auth == "":
		h.writeAPIError(w, httpbody.Refuse(http.StatusNotFound, httpbody.ReasonInvalid, "the project has no PostHog connection to get the setting from"))
		return
	}
	query := r.URL.Query()
	query.Set("token", p.conn.ProjectKey.Reveal())
	u := url.URL{Path: strings.TrimSuffix(r.URL.Path, "/")}
	a := h.relay.ask(r.Context(), relayRequest{method: http.MethodGet, url: p.conn.Host + u.EscapedPath() + "?" + h.queryFor(p.conn, query), auth: p.auth, fresh: definitionsFresh})
	if a == nil {
		h.writeAPIError(w, httpbody.Refuse(http.StatusServiceUnavailable, httpbody.ReasonUnavailable, "PostHog did not respond: try again"))
		return
	}
	h.writeCached(w, a, a.body)
}

// emptyLists are the responses to browsers if there is nothing.
var emptyLists = map[string]string{
	"/api/surveys":               "surveys",
	"/api/web_experiments":       "experiments",
	"/api/early_access_features": "earlyAccessFeatures",
	"/api/product_tours":         "product_tours",
}

func (h *Handler) serveList(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.Path, "/")
	query := r.URL.Query()
	to, bad := h.resolve(query.Get("token"))
	if bad != nil {
		h.writeAPIError(w, bad)
		return
	}
	if conn, ok := h.connection(to); ok {
		query.Set("token", conn.ProjectKey.Reveal())
		if a := h.relay.ask(r.Context(), relayRequest{method: http.MethodGet, url: conn.Host + path + "/?" + h.queryFor(conn, query), fresh: configFresh}); a != nil && a.status == http.StatusOK {
			h.writeCached(w, a, a.body)
			return
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{emptyLists[path]: []any{}})
}

// arrayPath parses /array/{token}/config and /array/{token}/config.js.
func arrayPath(path string) (token string, script, ok bool) {
	rest, ok := strings.CutPrefix(path, "/array/")
	if !ok {
		return "", false, false
	}
	token, file, _ := strings.Cut(rest, "/")
	switch {
	case token == "":
		return "", false, false
	case file == "config":
		return token, false, true
	case file == "config.js":
		return token, true, true
	}
	return "", false, false
}

// serveArray serves the browser's configuration. The script is generated from the
// same JSON: PostHog's own also contains site apps, which are third-party code.
func (h *Handler) serveArray(w http.ResponseWriter, r *http.Request) {
	token, script, _ := arrayPath(strings.TrimSuffix(r.URL.Path, "/"))
	to, bad := h.resolve(token)
	if bad != nil {
		h.writeAPIError(w, bad)
		return
	}
	own := len(h.ownFlags(to.project)) > 0
	settings, err := json.Marshal(noSettings(token, own))
	if err != nil {
		h.writeAPIError(w, httpbody.AsRefusal(err))
		return
	}
	if conn, ok := h.connection(to); ok {
		a := h.relay.ask(r.Context(), relayRequest{method: http.MethodGet, url: assetHost(conn.Host) + "/array/" + url.PathEscape(conn.ProjectKey.Reveal()) + "/config", fresh: configFresh})
		if a != nil && a.status == http.StatusOK {
			settings = settingsFor(a.body, conn, token)
			if own {
				settings = bytes.Replace(settings, []byte(`"hasFeatureFlags":false`), []byte(`"hasFeatureFlags":true`), 1)
			}
		} else if settings, err = json.Marshal(noSettings(token, true)); err != nil { // there may be flags: have the SDK request them
			h.writeAPIError(w, httpbody.AsRefusal(err))
			return
		}
	}
	if !script {
		h.writeCached(w, &cachedResponse{status: http.StatusOK}, settings)
		return
	}
	quoted, _ := json.Marshal(token)
	w.Header().Set("Content-Type", "application/javascript; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(slices.Concat([]byte("(function(){var c=window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{};c["), quoted, []byte("]={config:"), settings, []byte(",siteApps:[]};})();\n")))
}

// assetHost is where PostHog's cloud serves scripts and browser settings (contract
// section 7.1); self-hosted ones serve their own.
func assetHost(host string) string {
	u, err := url.Parse(host)
	if err != nil {
		return host
	}
	switch name, isCloud := strings.CutSuffix(u.Host, ".i.posthog.com"); {
	case isCloud && !strings.Contains(name, ".") && !strings.HasSuffix(name, "-assets"):
		return u.Scheme + "://" + name + "-assets.i.posthog.com"
	case u.Host == "app.posthog.com":
		return u.Scheme + "://us-assets.i.posthog.com"
	}
	return host
}

// asset reports whether a path is a script that posthog-js loads from its host,
// of its own version (strict_script_versioning) or any.
func asset(path string) bool {
	name, ok := strings.CutPrefix(path, "/static/")
	if !ok {
		return false
	}
	if version, file, ok := strings.Cut(name, "/"); ok && strings.Trim(version, "0123456789.") == "" {
		name = file
	}
	name, ok = strings.CutSuffix(name, ".js")
	switch name {
	case "array", "array.full", "array.full.es5", "array.full.no-external", "array.no-external", "recorder", "recorder-v2", "lazy-recorder", "posthog-recorder", "surveys", "surveys-preview",
		"exception-autocapture", "dead-clicks-autocapture", "web-vitals", "web-vitals-soft-navs", "web-vitals-with-attribution", "web-vitals-with-attribution-soft-navs", "tracing-headers", "toolbar",
		"external-scripts-loader", "customizations", "customizations.full", "element-inference", "product-tours", "product-tours-preview", "conversations", "logs", "intercom-integration",
		"crisp-chat-integration", "all-external-dependencies", "module", "module.full":
		return ok
	}
	return false
}

// serveAsset redirects to PostHog's copy: hedgerow serves no third-party code on its
// own origin.
func (h *Handler) serveAsset(w http.ResponseWriter, r *http.Request) {
	host := assetHost(project.DefaultHost)
	for _, c := range h.c.Projects().AllConnections() {
		if c.Enabled {
			host = assetHost(c.Host)
			break
		}
	}
	to := host + r.URL.Path
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	http.Redirect(w, r, to, http.StatusFound)
}
