package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/reconcile"
	"github.com/hedgerow/hedgerow/server/internal/services"
)

//go:embed openapi.json
var openAPI []byte

// maxBody bounds a request's body: settings are small.
const maxBody = 1 << 20

// Config configures an [API].
type Config struct {
	services.Services

	Logger  *slog.Logger
	Version string
	// PublicURL is hedgerow's public address, the base of links.
	PublicURL string

	// Append stores what POST /api/v1/events sends. nil: the response is that
	// no server runs.
	Append Appender

	Connections Connections // required
	DeadLetters DeadLetters // required
	Gaps        Gaps        // required
	// Status describes the running process for GET /api/v1/status: any value
	// that marshals to JSON. nil leaves the route's answer at the version.
	Status func(context.Context) any
	// ReloadPrices reads the price overlay again.
	ReloadPrices func() error

	Now func() time.Time // Defaults to time.Now
}

// Principal is the authenticated caller.
type Principal struct {
	ProjectID string // the project that the answer is about
	Scopes    project.Scopes
	Role      project.Role // by which prompts and answers may be read
	Local     bool         // on the data folder's socket: may see every project
	Surface   string       // of events that name none: the key's
	Actor     string       // for the audit log: "key k_…" or "local"
}

// API is the handler of /api/v1/.
type API struct {
	c   Config
	log *slog.Logger
	mux *http.ServeMux
	now func() time.Time
}

// New returns the API. Local makes one for the data folder's socket, on which
// every caller is an administrator: never serve that on a network.
func New(c Config) *API { return build(c, false) }

// Local returns the API for the data folder's own socket.
func Local(c Config) *API { return build(c, true) }

func build(c Config, local bool) *API {
	a := &API{c: c, log: c.Logger, now: c.Now, mux: http.NewServeMux()}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	for _, r := range append(a.routes(), a.posthogRoutes()...) {
		a.mux.Handle(r.pattern, a.handle(local, r))
	}
	sum := sha256.Sum256(openAPI)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	a.mux.HandleFunc("GET /api/v1/openapi.json", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Etag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(openAPI)) // answers If-None-Match
	})
	a.mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		WriteError(w, event.NewError(event.CodeNotFound, "route not found", "see GET /api/v1/openapi.json for the routes and their methods", nil))
	})
	return a
}

type route struct {
	pattern string
	need    []project.Scope // all of them; [onSocket] is for the data folder's socket
	global  bool            // about no single project
	handle  func(*http.Request, Principal) (any, error)
}

// largeBodies has the size limits, in bytes, of routes whose requests may be
// longer than maxBody.
var largeBodies = map[string]int64{importRoute: maxImport, importBillRoute: reconcile.MaxFile}

// file is an answer that is no JSON.
type file struct {
	name, kind string
	body       []byte
}

// What routes require of a key. spend is for what has models called at the
// project's expense; onSocket marks the routes that no key opens: they concern
// the whole server, and a key is of one project.
var (
	read     = []project.Scope{project.ScopeRead}
	write    = []project.Scope{project.ScopeWrite}
	ingest   = []project.Scope{project.ScopeIngest}
	spend    = []project.Scope{project.ScopeWrite, project.ScopeGateway}
	admin    = []project.Scope{project.ScopeAdmin}
	onSocket = []project.Scope{"socket"}
)

// routes is every route with what it requires of the caller. openapi.json
// describes each.
func (a *API) routes() []route {
	return slices.Concat(a.evalRoutes(), a.datasetRoutes(), a.rolloutRoutes(), a.reconcileRoutes(), []route{
		{"GET /api/v1/events", read, false, a.events},
		{"POST /api/v1/events", ingest, false, a.recordEvents},
		{"GET /api/v1/events/{uuid}", read, false, a.event},
		{"DELETE /api/v1/events/{uuid}", admin, false, a.deleteEvent},
		{"POST /api/v1/events/delete", admin, false, a.deleteEvents},
		{"GET /api/v1/traces/{id}", read, false, a.trace},
		{"GET /api/v1/stats", read, false, a.stats},
		{"GET /api/v1/series", read, false, a.series},
		{"GET /api/v1/examples", read, false, a.examples},
		{"GET /api/v1/values/{field}", read, false, a.values},
		{"GET /api/v1/facets", read, false, a.facets},

		{"GET /api/v1/projects", read, true, a.listProjects},
		{"POST /api/v1/projects", onSocket, true, a.createProject},
		{"PATCH /api/v1/projects/{project}", admin, true, a.updateProject},
		{"POST /api/v1/projects/{project}/rotate-token", admin, true, a.rotateToken},
		{"GET /api/v1/projects/{project}/keys", admin, true, a.listKeys},
		{"POST /api/v1/projects/{project}/keys", admin, true, a.createKey},
		{"PATCH /api/v1/projects/{project}/keys/{key}", admin, true, a.updateKey},
		{"DELETE /api/v1/projects/{project}/keys/{key}", admin, true, a.revokeKey},
		{"PUT /api/v1/projects/{project}/provider-keys/{provider}", admin, true, a.setProviderKey},
		{"DELETE /api/v1/projects/{project}/provider-keys/{provider}", admin, true, a.deleteProviderKey},
		{"POST /api/v1/sign-in-links", onSocket, true, a.createSignInLink},

		{"GET /api/v1/connections", read, false, a.listConnections},
		{"PUT /api/v1/connections/{name}", write, false, a.setConnection},
		{"POST /api/v1/connections/{name}/test", write, false, a.testConnection},
		{"DELETE /api/v1/connections/{name}", write, false, a.deleteConnection},
		{"GET /api/v1/connections/{name}/ledger", read, false, a.connectionLedger},
		{"POST /api/v1/connections/{name}/ledger/taken-over", write, false, a.decideLegacyNames},

		{"GET /api/v1/prompts", read, false, a.listPrompts},
		{"POST /api/v1/prompts", write, false, a.createPrompt},
		{"POST /api/v1/prompts/import", write, false, a.importPrompt},
		{"GET /api/v1/prompts/{name}", read, false, a.prompt},
		{"PATCH /api/v1/prompts/{name}", write, false, a.updatePrompt},
		{"DELETE /api/v1/prompts/{name}", write, false, a.deletePrompt},
		{"POST /api/v1/prompts/{name}/versions", write, false, a.addPromptVersion},
		{"GET /api/v1/prompts/{name}/versions/{version}", read, false, a.promptVersion},
		{"PUT /api/v1/prompts/{name}/labels/{label}", write, false, a.setPromptLabel},
		{"DELETE /api/v1/prompts/{name}/labels/{label}", write, false, a.removePromptLabel},
		{"POST /api/v1/prompts/{name}/render", read, false, a.renderPrompt},
		{"GET /api/v1/prompts/{name}/export", read, false, a.exportPrompt},

		{"GET /api/v1/experiments", read, false, a.listExperiments},
		{"POST /api/v1/experiments", write, false, a.createExperiment},
		{"GET /api/v1/experiments/{id}", read, false, a.experiment},
		{"PUT /api/v1/experiments/{id}", write, false, a.updateExperiment},
		{"DELETE /api/v1/experiments/{id}", write, false, a.deleteExperiment},
		{"POST /api/v1/experiments/{id}/start", write, false, a.startExperiment},
		{"POST /api/v1/experiments/{id}/stop", write, false, a.stopExperiment},
		{"GET /api/v1/experiments/{id}/segments/{by}", read, false, a.experimentSegments},
		{"GET /api/v1/alerts", admin, false, a.alerts},
		{"PUT /api/v1/alerts", admin, false, a.setAlerts},
		{"POST /api/v1/alerts/test", admin, false, a.testAlerts},

		{"GET /api/v1/dead-letters", write, false, a.listDead},
		{"POST /api/v1/dead-letters/replay", write, false, a.replayDead},
		{"GET /api/v1/gaps", write, false, a.listGaps},
		{"POST /api/v1/gaps/send", write, false, a.sendGaps},
		{"POST /api/v1/gaps/forget", write, false, a.forgetGaps},
		{"GET /api/v1/server", admin, true, a.server},
		{"PATCH /api/v1/server", onSocket, true, a.setServer},
		{"GET /api/v1/status", read, true, a.status},
		{"POST /api/v1/status/acknowledge", admin, true, a.acknowledge},
		{"POST /api/v1/prices/reload", admin, true, a.reloadPrices},
		{"POST /api/v1/prices/reprice", admin, false, a.reprice},
		{"GET /api/v1/prices/reprice", admin, false, a.repricing},
		{"DELETE /api/v1/prices/reprice", admin, false, a.cancelRepricing},
	})
}

// ServeHTTP serves /api/v1/.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// handle serves every route: authentication, authorization, the answer or the
// error.
func (a *API) handle(local bool, rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, cmp.Or(largeBodies[rt.pattern], maxBody))
		defer a.recovered(w, rt)
		p, err := a.principal(r, local)
		if err == nil {
			err = p.may(rt)
		}
		var out any
		if err == nil {
			// Only the query string: a body is JSON and read by the handler.
			if r.Form, err = url.ParseQuery(r.URL.RawQuery); err != nil {
				err = event.NewError(event.CodeInvalid, "the query string cannot be read", "encode each value, a percent sign as %25", err)
			} else if !rt.global {
				p.ProjectID, err = a.projectOf(r, p)
			}
		}
		if err == nil {
			out, err = rt.handle(r.WithContext(project.WithRole(project.WithActor(r.Context(), p.Actor), p.Scopes.ContentRole())), p)
		}
		if err != nil {
			e := event.AsError(err)
			if e.HTTPStatus() >= 500 {
				a.log.Error("api request failed", "route", rt.pattern, "err", err)
			}
			WriteError(w, e)
			return
		}
		if f, ok := out.(attachment); ok {
			f.write(w)
			return
		}
		if f, ok := out.(file); ok {
			h := w.Header()
			h.Set("Content-Type", f.kind)
			h.Set("Content-Disposition", `attachment; filename="`+f.name+`"`)
			h.Set("Cache-Control", "no-store")
			h.Set("X-Content-Type-Options", "nosniff")
			_, _ = w.Write(f.body)
			return
		}
		writeJSON(w, http.StatusOK, out)
	})
}

// may rejects a caller who lacks a scope that the route needs.
func (p Principal) may(rt route) error {
	switch {
	case p.Local:
		return nil
	case slices.Equal(rt.need, onSocket):
		return event.NewError(event.CodeForbidden, "API keys belong to one project and cannot change server settings",
			"use the Projects page as an administrator, or hedgerow project on the server", nil)
	case len(rt.need) == 0 || !p.Scopes.Has(rt.need...):
		return project.MissingScope(p.Scopes, rt.need...)
	}
	return nil
}

// recovered writes a response after a handler panicked. The panic value may
// quote a request, so it is neither returned nor logged.
func (a *API) recovered(w http.ResponseWriter, rt route) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	a.log.Error("api handler panicked", "route", rt.pattern, "type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
	WriteError(w, event.NewError(event.CodeInternal, "internal error in hedgerow", "see hedgerow's log for the cause", nil))
}

// principal authenticates the caller.
func (a *API) principal(r *http.Request, local bool) (Principal, error) {
	if local {
		return Principal{Scopes: project.AllScopes(), Role: project.RoleAdmin, Local: true, Actor: "local"}, nil
	}
	key := r.Header.Get("X-Hedgerow-Key")
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		key = token
	}
	if key == "" {
		return Principal{}, event.NewError(event.CodeUnauthorized, "no API key", "send Authorization: Bearer hr_…; create a key with hedgerow project add-key", nil)
	}
	pr, k, ok := a.c.Registry.Snapshot().ProjectByAPIKey(strings.TrimSpace(key))
	if !ok {
		return Principal{}, event.NewError(event.CodeUnauthorized, "unknown API key", "check it, or create one with hedgerow project add-key", nil)
	}
	return Principal{ProjectID: pr.ID, Scopes: k.May(), Role: k.May().ContentRole(), Surface: k.Surface, Actor: "key " + k.ID}, nil
}

// projectOf is the project that a request is about: the key's own or, on the
// socket, the one that it names.
func (a *API) projectOf(r *http.Request, p Principal) (string, error) {
	name := r.FormValue("project")
	if !p.Local {
		if name != "" {
			if pr, err := a.findProject(name, p); err != nil || pr != p.ProjectID {
				return "", noProject(name)
			}
		}
		return p.ProjectID, nil
	}
	if name == "" {
		name = "default"
	}
	return a.findProject(name, p)
}

func noProject(name string) error {
	return event.NewError(event.CodeNotFound, "project "+quoted(name)+" not found", "list the projects with hedgerow project list", nil)
}

// RetryAfter is the Retry-After header of 503 answers in seconds: failures
// usually recover within five.
const RetryAfter = "5"

// WriteError writes an error in the API's format.
func WriteError(w http.ResponseWriter, err error) {
	e := event.AsError(err)
	if e.Code == event.CodeUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="hedgerow"`)
	}
	if e.Code == event.CodeUnavailable {
		w.Header().Set("Retry-After", RetryAfter)
	}
	body := map[string]any{"code": e.Code, "message": e.Message, "hint": e.Hint}
	var at *query.FilterError
	if errors.As(err, &at) {
		body["field"], body["position"], body["did_you_mean"] = at.Field, at.Position, at.DidYouMean
	}
	writeJSON(w, e.HTTPStatus(), map[string]any{"error": body})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	// Not escaped for HTML, which it is never read as: that makes a text up to six
	// times as long.
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	b := bytes.TrimSuffix(body.Bytes(), []byte("\n"))
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":{"code":"internal","message":"the response could not be written","hint":"see hedgerow's log"}}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// readJSON parses a request's body strictly: unknown fields are errors.
func readJSON(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = cmp.Or(err, errors.New("more than one value"))
	} else if errors.Is(err, io.EOF) {
		return event.Invalid("the request has no body", "send a JSON object")
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return event.NewError(event.CodeTooLarge, "the request is larger than 1 MiB", "send smaller requests", nil)
	}
	return event.NewError(event.CodeInvalid, "the request body does not match this route's schema", "see GET /api/v1/openapi.json", err)
}
