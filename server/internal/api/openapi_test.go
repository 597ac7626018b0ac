package api_test

import (
	"encoding/json"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/dataset"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/reprice"
)

// document is what the test reads of openapi.json.
type document struct {
	OpenAPI    string
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]schema }
}

// schema is an object or, by reference, one of several forms.
type schema struct {
	Ref        string `json:"$ref"`
	OneOf      []schema
	Items      *schema
	Properties map[string]struct{ Type string }
}

// object is the object that a schema describes, alone or as a list's item.
func (d document) object(s schema) schema {
	for _, one := range s.OneOf[:min(1, len(s.OneOf))] {
		return d.object(one)
	}
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		return d.Components.Schemas[name]
	}
	return s
}

type operation struct {
	OperationID string
	Summary     string
	Description string
	Parameters  []struct {
		Name, In string
		Required bool
	}
	RequestBody *struct {
		Required bool
		Content  map[string]struct{ Schema schema }
	}
	Responses map[string]any
	Security  []struct{ Key []string }
}

// scopes are those that an operation declares; none are of one that needs no key.
func (o operation) scopes() []string {
	if len(o.Security) == 0 {
		return nil
	}
	return o.Security[0].Key
}

func openAPI(t *testing.T) document {
	t.Helper()
	w := httptest.NewRecorder()
	api.New(api.Config{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/openapi.json", nil)) // no key needed
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", w.Code, w.Header())
	}
	var d document
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

var placeholder = regexp.MustCompile(`\{(\w+)\}`)

// Every route is in the document, and everything in the document is a route.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	d := openAPI(t)
	if !strings.HasPrefix(d.OpenAPI, "3.") {
		t.Errorf("version %q", d.OpenAPI)
	}
	routes := api.Routes()
	seen := map[string]bool{}
	ids := map[string]string{}
	for path, ops := range d.Paths {
		for method, op := range ops {
			name := strings.ToUpper(method) + " " + path
			seen[name] = true
			if !slices.Contains(routes, name) {
				t.Errorf("%s is documented, but no route", name)
			}
			if op.Summary == "" || op.OperationID == "" || op.Responses["200"] == nil {
				t.Errorf("%s lacks a summary, an id or its answer", name)
			}
			if other := ids[op.OperationID]; other != "" {
				t.Errorf("%s and %s have one operation id", name, other)
			}
			ids[op.OperationID] = name
			var inPath []string
			for _, p := range op.Parameters {
				if p.In == "path" {
					inPath = append(inPath, p.Name)
				}
			}
			var want []string
			for _, m := range placeholder.FindAllStringSubmatch(path, -1) {
				want = append(want, m[1])
			}
			if !slices.Equal(inPath, want) {
				t.Errorf("%s documents the path's %v, want %v", name, inPath, want)
			}
		}
	}
	for _, r := range routes {
		if !seen[r] {
			t.Errorf("%s is not documented", r)
		}
	}
}

// What is documented of a body is what the code reads.
func TestOpenAPIHasEveryField(t *testing.T) {
	d := openAPI(t)
	inputs := map[string]any{
		"POST /api/v1/events":                                     api.EventInput{},
		"POST /api/v1/projects":                                   api.CreateInput{},
		"POST /api/v1/events/delete":                              api.DeleteEventsInput{},
		"PATCH /api/v1/projects/{project}":                        api.ProjectInput{},
		"PATCH /api/v1/server":                                    api.ServerInput{},
		"POST /api/v1/projects/{project}/keys":                    api.KeyInput{},
		"PATCH /api/v1/projects/{project}/keys/{key}":             api.KeyChange{},
		"PUT /api/v1/projects/{project}/provider-keys/{provider}": api.ProviderKeyInput{},
		"PUT /api/v1/connections/{name}":                          api.ConnectionInput{},
		"POST /api/v1/connections/{name}/ledger/taken-over":       api.LegacyNamesInput{},
		"POST /api/v1/dead-letters/replay":                        api.ReplayInput{},
		"POST /api/v1/gaps/send":                                  api.GapsInput{},
		"POST /api/v1/gaps/forget":                                api.GapsInput{},
		"POST /api/v1/prompts":                                    api.PromptInput{},
		"POST /api/v1/prompts/import":                             api.ImportInput{},
		"PATCH /api/v1/prompts/{name}":                            api.PromptPatch{},
		"POST /api/v1/prompts/{name}/versions":                    prompt.Draft{},
		"PUT /api/v1/prompts/{name}/labels/{label}":               api.LabelInput{},
		"POST /api/v1/experiments":                                api.ExperimentInput{},
		"PUT /api/v1/experiments/{id}":                            experiment.Spec{},
		"POST /api/v1/experiments/{id}/stop":                      api.StopExperimentInput{},
		"PUT /api/v1/alerts":                                      api.AlertsInput{},
		"POST /api/v1/prompts/{name}/render":                      api.RenderInput{},
		"PUT /api/v1/prompts/{name}/rollout":                      api.RolloutInput{},
		"POST /api/v1/prompts/{name}/rollout/stop":                api.StopInput{},
		"POST /api/v1/prompts/{name}/resolve":                     api.ResolveInput{},
		"POST /api/v1/datasets":                                   api.DatasetInput{},
		"POST /api/v1/datasets/{dataset}/examples":                api.ExampleInput{},
		"POST /api/v1/datasets/{dataset}/runs":                    dataset.Plan{},
		"POST /api/v1/datasets/{dataset}/import":                  struct{}{}, // lines of JSON
		"POST /api/v1/prices/reprice":                             reprice.Request{},
		"POST /api/v1/evals":                                      api.EvalInput{},
		"POST /api/v1/reconcile/imports":                          struct{}{}, // files
		"POST /api/v1/reconcile/fetch":                            api.FetchBillInput{},
		"PUT /api/v1/reconcile/keys/{provider}":                   api.AdminKeyInput{},
		"POST /api/v1/feedback":                                   api.FeedbackInput{},
		"POST /api/v1/evals/checks":                               api.CheckInput{},
		"PATCH /api/v1/evals/checks/{check}":                      api.CheckInput{},
		"POST /api/v1/evals/try":                                  api.TryInput{},
	}
	for path, ops := range d.Paths {
		for method, op := range ops {
			name := strings.ToUpper(method) + " " + path
			in, reads := inputs[name]
			if reads != (op.RequestBody != nil) {
				t.Errorf("%s: reads a body: %t; documents one: %t", name, reads, op.RequestBody != nil)
				continue
			}
			if !reads {
				continue
			}
			var want, got []string
			for _, f := range reflect.VisibleFields(reflect.TypeOf(in)) {
				if f.Anonymous {
					continue // its fields are there
				}
				field, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				want = append(want, field)
			}
			for field, p := range d.object(op.RequestBody.Content["application/json"].Schema).Properties {
				got = append(got, field)
				if p.Type == "" {
					t.Errorf("%s: %s has no type", name, field)
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s documents %v, reads %v", name, got, want)
			}
			delete(inputs, name)
		}
	}
	for name := range inputs {
		t.Errorf("%s is not documented", name)
	}
}

// Every documented parameter of the questions is one that they take, each with
// a value that does not matter.
func TestOpenAPIHasEveryParameter(t *testing.T) {
	f := newFixture(t)
	d := openAPI(t)
	values := map[string]string{"from": "-1d", "to": "2026-03-30", "limit": "5", "cursor": "", "tz": "UTC", "group_by": "model", "compare": "true", "period": "today", "queue": "store", "content": "true", "latency_of": "all", "measure": "calls", "by": "model"}
	for _, path := range []string{"/api/v1/events", "/api/v1/stats", "/api/v1/dead-letters", "/api/v1/events/{uuid}"} {
		for _, p := range d.Paths[path]["get"].Parameters {
			if p.In != "query" {
				continue
			}
			v, ok := values[p.Name]
			if !ok {
				v = "x"
			}
			target := strings.ReplaceAll(path, "{uuid}", f.events[0].UUID) + "?" + p.Name + "=" + v
			if p.Name == "compare" {
				target += "&from=-1d"
			}
			if a := f.ask(f.member, "GET", target, nil); a.status != 200 {
				t.Errorf("%s: %d %s", target, a.status, a.raw)
			}
		}
	}
}

func TestOpenAPIIsCached(t *testing.T) {
	h := api.New(api.Config{})
	get := func(tag string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/openapi.json", nil)
		if tag != "" {
			r.Header.Set("If-None-Match", tag)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	first := get("")
	tag := first.Header().Get("Etag")
	if first.Code != 200 || tag == "" {
		t.Fatalf("%d, tag %q", first.Code, tag)
	}
	if again := get(tag); again.Code != 304 || again.Body.Len() != 0 {
		t.Errorf("with the tag: %d and %d bytes", again.Code, again.Body.Len())
	}
	if other := get(`"other"`); other.Code != 200 {
		t.Errorf("with another tag: %d", other.Code)
	}
}
