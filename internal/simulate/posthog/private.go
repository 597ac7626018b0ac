package posthog

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Query is a request to the query API.
type Query struct {
	Name    string          // the request's "name"
	HogQL   string          // the query's text
	Values  json.RawMessage // its placeholders
	Project Project
}

// Result is a result of the query API, with rows in the order of Columns.
type Result struct {
	Columns []string
	Rows    [][]any
}

// QueryFunc returns the result of a query; an error becomes a 400 in PostHog's format.
type QueryFunc func(Query) (Result, error)

// HandleQuery uses f for queries with a name. It can replace the built-in ones,
// [QueryByDay] and [QueryByModel].
func (s *Server) HandleQuery(name string, f QueryFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queries == nil {
		s.queries = make(map[string]QueryFunc)
	}
	s.queries[name] = f
}

// private serves what needs a personal key: /api/… and /flags/definitions.
func (s *Server) private(w http.ResponseWriter, r *http.Request, route string, rec *Request) {
	if !strings.HasSuffix(r.URL.Path, "/") && strings.HasPrefix(route, "/api/") && route != "/api/feature_flag/local_evaluation" {
		// The real one redirects too, which turns a POST into a GET.
		http.Redirect(w, r, route+"/", http.StatusMovedPermanently)
		return
	}
	secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if secret == "" {
		drf(w, http.StatusUnauthorized, "authentication_error", "not_authenticated", "Authentication credentials were not provided.")
		return
	}
	i := slices.IndexFunc(s.o.PersonalKeys, func(k PersonalKey) bool { return k.Key == secret })
	if i < 0 {
		drf(w, http.StatusUnauthorized, "authentication_error", "authentication_failed", "Personal API key found in request Authorization header is invalid.")
		return
	}
	key := s.o.PersonalKeys[i]
	scoped := func(scope string) bool {
		writes := strings.TrimSuffix(scope, ":read") + ":write" // includes read
		if slices.Contains(key.Scopes, "*") || slices.Contains(key.Scopes, scope) || slices.Contains(key.Scopes, writes) {
			return true
		}
		drf(w, http.StatusForbidden, "authentication_error", "permission_denied", fmt.Sprintf("API key missing required scope '%s'", scope))
		return false
	}
	parts := strings.Split(strings.TrimPrefix(route, "/api/"), "/")
	switch {
	case route == "/flags/definitions" || route == "/api/feature_flag/local_evaluation":
		if scoped("feature_flag:read") {
			s.serveDefinitions(w, r)
		}
	case route == "/api/users/@me":
		if p, ok := s.project(key, "@current", ""); scoped("user:read") {
			user := map[string]any{"uuid": "01890a5d-ac96-774b-bcce-b302099a8057", "email": "test@example.com", "organization": map[string]any{"name": "Test organisation"}}
			if ok {
				user["team"] = projectJSON(p)
			}
			writeJSON(w, http.StatusOK, user)
		}
	case route == "/api/projects" || route == "/api/environments":
		if scoped("project:read") {
			list := []any{}
			for _, p := range s.o.Projects {
				if key.sees(p) {
					list = append(list, projectJSON(p))
				}
			}
			writeJSON(w, http.StatusOK, map[string]any{"count": len(list), "next": nil, "previous": nil, "results": list})
		}
	case len(parts) < 2 || parts[0] != "projects" && parts[0] != "environments":
		drf(w, http.StatusNotFound, "invalid_request", "not_found", "Endpoint not found.")
	default:
		p, ok := s.project(key, parts[1], r.URL.Query().Get("token"))
		switch {
		case !ok:
			drf(w, http.StatusNotFound, "invalid_request", "not_found", "Project not found.")
		case !key.sees(p):
			drf(w, http.StatusForbidden, "authentication_error", "permission_denied", "You don't have access to the project.")
		case len(parts) == 2:
			if scoped("project:read") {
				writeJSON(w, http.StatusOK, projectJSON(p))
			}
		case len(parts) == 3 && parts[2] == "query":
			if r.Method != http.MethodPost {
				drf(w, http.StatusMethodNotAllowed, "invalid_request", "method_not_allowed", fmt.Sprintf("Method %q not allowed.", r.Method))
			} else if scoped("query:read") {
				s.query(w, rec.Body, p)
			}
		case len(parts) == 3 && parts[2] == "persons":
			if r.Method != http.MethodGet {
				drf(w, http.StatusMethodNotAllowed, "invalid_request", "method_not_allowed", fmt.Sprintf("Method %q not allowed.", r.Method))
			} else if scoped("person:read") {
				s.findPersons(w, r, p)
			}
		case len(parts) == 4 && parts[2] == "persons":
			if r.Method != http.MethodDelete {
				drf(w, http.StatusMethodNotAllowed, "invalid_request", "method_not_allowed", fmt.Sprintf("Method %q not allowed.", r.Method))
			} else if scoped("person:write") {
				s.deletePerson(w, r, p, parts[3])
			}
		case len(parts) == 4 && parts[2] == "feature_flags":
			if r.Method != http.MethodPatch {
				drf(w, http.StatusMethodNotAllowed, "invalid_request", "method_not_allowed", fmt.Sprintf("Method %q not allowed.", r.Method))
			} else if scoped("feature_flag:write") {
				s.patchFlag(w, parts[3], rec.Body)
			}
		default:
			drf(w, http.StatusNotFound, "invalid_request", "not_found", "Endpoint not found.")
		}
	}
}

func (k PersonalKey) sees(p Project) bool {
	return k.Projects == nil || slices.Contains(k.Projects, p.ID)
}

// project finds a project by id. "@current" is the key's first or, with a
// token, that token's.
func (s *Server) project(k PersonalKey, id, token string) (Project, bool) {
	switch {
	case id == "@current" && token != "":
		return s.projectByToken(token)
	case id == "@current":
		if i := slices.IndexFunc(s.o.Projects, k.sees); i >= 0 {
			return s.o.Projects[i], true
		}
		return Project{}, false
	}
	i := slices.IndexFunc(s.o.Projects, func(p Project) bool { return strconv.Itoa(p.ID) == id })
	if i < 0 {
		return Project{}, false
	}
	return s.o.Projects[i], true
}

func projectJSON(p Project) map[string]any {
	return map[string]any{"id": p.ID, "name": p.Name, "api_token": p.Token, "timezone": "UTC"}
}

func (s *Server) query(w http.ResponseWriter, body []byte, p Project) {
	var in struct {
		Name  string `json:"name"`
		Query struct {
			Kind   string          `json:"kind"`
			Query  string          `json:"query"`
			Values json.RawMessage `json:"values"`
		} `json:"query"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		drf(w, http.StatusBadRequest, "validation_error", "parse_error", "JSON parse error")
		return
	}
	if in.Query.Kind != "HogQLQuery" {
		drf(w, http.StatusBadRequest, "validation_error", "invalid_input", "this PostHog supports the kind HogQLQuery only.")
		return
	}
	q := Query{Name: in.Name, HogQL: in.Query.Query, Values: in.Query.Values, Project: p}
	s.mu.Lock()
	f := s.queries[q.Name]
	s.mu.Unlock()
	if f == nil {
		f = s.builtin(q)
	}
	res, err := f(q)
	if err != nil {
		drf(w, http.StatusBadRequest, "validation_error", "invalid_input", err.Error())
		return
	}
	rows := res.Rows
	if rows == nil {
		rows = [][]any{}
	}
	writeJSON(w, http.StatusOK, map[string]any{"results": rows, "columns": res.Columns, "types": []any{}, "hogql": q.HogQL, "timings": []any{},
		"is_cached": false, "last_refresh": s.o.Now().UTC(), "query_status": nil, "error": nil})
}

// drf writes an error in the form of the Django REST framework, as PostHog does.
func drf(w http.ResponseWriter, status int, kind, code, detail string) {
	writeJSON(w, status, map[string]any{"type": kind, "code": code, "detail": detail, "attr": nil})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func itoa(n int) string { return strconv.Itoa(n) }
