package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// handler makes a page, or carries out a form and ends with [frame.done]. Its
// error becomes a page that says what to do.
type handler func(*http.Request, *frame) (templ.Component, error)

// route is one entry of the table that says who may do what. A path that begins
// with /p/{project}/ is about that project: whoever may not see it is told that
// it does not exist, before anything else is looked at.
type route struct {
	pattern string
	need    project.Role // the least role; of no meaning for open routes
	handle  handler
	// again is the page that a form stands on: it is shown once more, with the
	// error on top, when handle refuses what was sent. frame.value fills its
	// fields with what was typed.
	again handler
	// open, in place of handle, lets strangers in.
	open http.HandlerFunc
	// raw, in place of handle, answers with something else than a page.
	raw func(http.ResponseWriter, *http.Request, *frame)
	// stream is set where raw answers bit by bit: it is not compressed.
	stream bool
	// form bounds what the form may send, in bytes. Defaults to maxForm.
	form int64
	// under is the path of the side bar's entry that the page belongs to, where its
	// own path does not begin with it.
	under string
	// section and label make an entry in the side bar, for those whose role
	// suffices, in the order of the table.
	section, label string
}

// table has every route of the pages but the static files.
func (s *Web) table() []route {
	const viewer, member, admin = project.RoleViewer, project.RoleMember, project.RoleAdmin
	return slices.Concat([]route{
		{pattern: "GET /sign-in", open: s.signInPage},
		{pattern: "POST /sign-in", open: s.signIn},
		{pattern: "POST /sign-in/link", open: s.signInLink},
		{pattern: "POST /sign-out", open: s.signOut},

		{pattern: "GET /{$}", need: viewer, handle: s.home},
		{pattern: "GET /welcome", need: viewer, handle: s.welcome},
		{pattern: "POST /welcome", need: viewer, handle: s.setUp, again: s.welcome},

		{pattern: "GET /p/{project}/overview", need: viewer, handle: s.overview, section: "Dashboards", label: "Overview"},
		{pattern: "GET /p/{project}/traffic", need: viewer, handle: s.traffic, section: "Dashboards", label: "Traffic & reliability"},
		{pattern: "GET /p/{project}/latency-cost", need: viewer, handle: s.spending, section: "Dashboards", label: "Latency & cost"},
		{pattern: "GET /p/{project}/quality", need: viewer, handle: s.quality, section: "Dashboards", label: "Quality & outcomes"},
		{pattern: "GET /p/{project}/agents", need: viewer, handle: s.agents, section: "Dashboards", label: "Agents"},
		{pattern: "GET /p/{project}/dashboards", need: viewer, handle: s.dashboards, section: "Dashboards", label: "Custom dashboards"},
		{pattern: "POST /p/{project}/dashboards", need: member, handle: s.createDashboard, again: s.dashboards},
		{pattern: "GET /p/{project}/dashboards/{dashboard}", need: viewer, handle: s.dashboard},
		{pattern: "POST /p/{project}/dashboards/{dashboard}", need: member, handle: s.arrange, again: s.dashboard},
		{pattern: "POST /p/{project}/dashboards/{dashboard}/delete", need: member, handle: s.deleteDashboard, again: s.dashboard},
		{pattern: "GET /p/{project}/explore", need: viewer, handle: s.explore, section: "Dashboards", label: "Chart builder"},
		{pattern: "POST /p/{project}/charts", need: member, handle: s.saveChart, again: s.exploreAgain},
		{pattern: "GET /p/{project}/examples", need: viewer, handle: s.examples},
		{pattern: "GET /p/{project}/chart.csv", need: viewer, raw: s.chartCSV},
		{pattern: "GET /p/{project}/agents.csv", need: viewer, raw: s.agentsCSV},
		{pattern: "GET /p/{project}/events.csv", need: viewer, raw: s.eventsCSV},
		{pattern: "GET /p/{project}/choices", need: viewer, raw: s.choices},
		{pattern: "GET /p/{project}/analytics", need: viewer, handle: s.analytics, section: "Dashboards", label: "PostHog sync"},
		{pattern: "GET /p/{project}/analytics/live", need: viewer, raw: s.live, stream: true},
		{pattern: "GET /p/{project}/models", need: viewer, handle: s.models, section: "Dashboards", label: "Models"},
		{pattern: "GET /p/{project}/generations", need: viewer, handle: s.generations, section: "Observe", label: "Generations"},
		{pattern: "GET /p/{project}/events", need: viewer, handle: s.events, section: "Observe", label: "Events"},
		{pattern: "GET /p/{project}/events/{uuid}/sent", need: viewer, handle: s.sent},
		{pattern: "POST /p/{project}/views", need: member, handle: s.saveView, again: s.events},
		{pattern: "POST /p/{project}/views/{view}/delete", need: member, handle: s.deleteView, again: s.events},
		{pattern: "GET /p/{project}/events/{uuid}", need: viewer, handle: s.event},
		{pattern: "POST /p/{project}/events/{uuid}/delete", need: admin, handle: s.deleteEvent, again: s.event},
		{pattern: "GET /p/{project}/traces", need: viewer, handle: s.traces, section: "Observe", label: "Traces"},
		{pattern: "GET /p/{project}/traces/{id}", need: viewer, handle: s.trace},
		{pattern: "GET /p/{project}/traces/{id}/download", need: viewer, raw: s.traceJSON},
		{pattern: "GET /p/{project}/sessions", need: viewer, handle: s.sessions, section: "Observe", label: "Sessions"},
		{pattern: "GET /p/{project}/sessions/{id}", need: viewer, handle: s.conversation},
		{pattern: "GET /p/{project}/people", need: viewer, handle: s.people, section: "Observe", label: "Users"},
		{pattern: "GET /p/{project}/people/{id}", need: viewer, handle: s.person},
		{pattern: "GET /p/{project}/errors", need: viewer, handle: s.errors, section: "Observe", label: "Errors"},
		// Short forms: trace_url bears no project, and people type these.
		{pattern: "GET /overview", need: viewer, handle: s.home},
		{pattern: "GET /events", need: viewer, handle: s.toEvents},
		{pattern: "GET /events/{uuid}", need: viewer, handle: s.findEvent},
		{pattern: "GET /traces/{id}", need: viewer, handle: s.findTrace},
	}, s.promptRoutes(), s.rolloutRoutes(), s.experimentRoutes(), s.evalRoutes(), []route{
		{pattern: "GET /p/{project}/connections", need: viewer, handle: s.connections, section: "Project", label: "Connections"},
		{pattern: "POST /p/{project}/connections", need: member, handle: s.createConnection, again: s.connections},
		{pattern: "GET /p/{project}/connections/{connection}", need: viewer, handle: s.connection},
		{pattern: "POST /p/{project}/connections/{connection}", need: member, handle: s.saveConnection, again: s.connection},
		{pattern: "POST /p/{project}/connections/{connection}/test", need: member, handle: s.testConnection, again: s.connection},
		{pattern: "POST /p/{project}/connections/{connection}/toggle", need: member, handle: s.toggleConnection, again: s.connection},
		{pattern: "POST /p/{project}/connections/{connection}/replay", need: member, handle: s.replayDead, again: s.connection},
		{pattern: "POST /p/{project}/connections/{connection}/gaps", need: member, handle: s.changeGaps, again: s.connection},
		{pattern: "GET /p/{project}/connections/{connection}/ledger", need: viewer, handle: s.ledger},
		{pattern: "POST /p/{project}/connections/{connection}/send", need: member, handle: s.sendNames, again: s.connection},
		{pattern: "POST /p/{project}/connections/{connection}/taken-over", need: member, handle: s.settleNames, again: s.connection},
		{pattern: "POST /p/{project}/connections/{connection}/delete", need: member, handle: s.deleteConnection, again: s.connection},

		{pattern: "GET /p/{project}/keys", need: member, handle: s.keys, section: "Project", label: "Keys"},
		{pattern: "POST /p/{project}/token", need: admin, handle: s.rotateToken, again: s.keys},
		{pattern: "POST /p/{project}/keys", need: admin, handle: s.createKey, again: s.keys},
		{pattern: "POST /p/{project}/keys/scopes", need: admin, handle: s.confirmScopes, again: s.keys},
		{pattern: "POST /p/{project}/keys/{key}/surface", need: admin, handle: s.setKeySurface, again: s.keys},
		{pattern: "POST /p/{project}/keys/{key}/revoke", need: admin, handle: s.revokeKey, again: s.keys},
		{pattern: "POST /p/{project}/provider-keys", need: admin, handle: s.setProviderKey, again: s.keys},
		{pattern: "POST /p/{project}/provider-keys/{provider}/delete", need: admin, handle: s.deleteProviderKey, again: s.keys},
		{pattern: "GET /p/{project}/alerts", need: admin, handle: s.alerts, section: "Project", label: "Alerts"},
		{pattern: "POST /p/{project}/alerts", need: admin, handle: s.saveAlerts, again: s.alerts},
		{pattern: "POST /p/{project}/alerts/test", need: admin, handle: s.testAlerts, again: s.alerts},
		{pattern: "GET /p/{project}/settings", need: admin, handle: s.settings, section: "Project", label: "Settings"},
		{pattern: "POST /p/{project}/settings", need: admin, handle: s.saveSettings, again: s.settings},
		{pattern: "POST /p/{project}/delete", need: admin, handle: s.deleteProject, again: s.settings},

		{pattern: "GET /projects", need: viewer, handle: s.projects, section: "Server", label: "Projects"},
		{pattern: "POST /projects", need: admin, handle: s.createProject, again: s.projects},
		{pattern: "POST /projects/require-key", need: admin, handle: s.requireKeys, again: s.projects},
		{pattern: "GET /users", need: admin, handle: s.users, section: "Server", label: "Members"},
		{pattern: "POST /users", need: admin, handle: s.invite, again: s.users},
		{pattern: "GET /users/{user}", need: admin, handle: s.user},
		{pattern: "POST /users/{user}", need: admin, handle: s.saveUser, again: s.user},
		{pattern: "POST /users/{user}/link", need: admin, handle: s.linkUser, again: s.user},
		{pattern: "POST /users/{user}/sign-out", need: admin, handle: s.signOutUser, again: s.user},
		{pattern: "POST /users/{user}/delete", need: admin, handle: s.deleteUser, again: s.user},
		{pattern: "GET /status", need: viewer, handle: s.status, section: "Server", label: "Status"},
		{pattern: "POST /status/acknowledge", need: admin, handle: s.acknowledge, again: s.status},
		{pattern: "GET /audit", need: admin, handle: s.audit, section: "Server", label: "Audit log"},

		{pattern: "GET /account", need: viewer, handle: s.account},
		{pattern: "POST /account", need: viewer, handle: s.saveAccount, again: s.account},
		{pattern: "POST /account/password", need: viewer, handle: s.changePassword, again: s.account},
		{pattern: "POST /account/sign-out-everywhere", need: viewer, handle: s.signOutEverywhere, again: s.account},
		{pattern: "POST /account/sessions/{session}/revoke", need: viewer, handle: s.revokeSession, again: s.account},
	})
}

func (rt route) path() string {
	_, path, _ := strings.Cut(rt.pattern, " ")
	return path
}

func (rt route) ofProject() bool { return strings.HasPrefix(rt.path(), "/p/{project}/") }

// navLink is an entry of the side bar, navSection a group of them.
type navLink struct {
	URL, Label string
	Current    bool
}

type navSection struct {
	Name  string
	Links []navLink
}

// nav picks the entries that a person may open. The current one is that whose
// path the page's own begins with.
func (s *Web) nav(at route, f *frame) []navSection {
	var out []navSection
	here := at.path()
	if here == "/p/{project}/events" && f.r.URL.Query().Get("kind") == query.KindCalls {
		here = "/p/{project}/generations"
	}
	for _, rt := range s.routes {
		if rt.label == "" || !f.Session.Role.Can(rt.need) || rt.ofProject() && f.Session.ProjectID == "" {
			continue
		}
		i := slices.IndexFunc(out, func(n navSection) bool { return n.Name == rt.section })
		if i < 0 {
			i, out = len(out), append(out, navSection{Name: rt.section})
		}
		out[i].Links = append(out[i].Links, navLink{
			URL: strings.Replace(rt.path(), "{project}", url.PathEscape(f.Session.ProjectID), 1), Label: rt.label,
			Current: here == rt.path() || at.under == rt.path() || strings.HasPrefix(here, rt.path()+"/"),
		})
	}
	return out
}

// maxForm bounds what a form may send, in bytes.
const maxForm = 64 << 10

// gate lets those in whom the table lets in, checks that a form is the person's
// own, and shows what the handler made, in the frame or, for htmx, without it.
func (s *Web) gate(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := s.frame(w, r)
		if !ok {
			to := "/sign-in"
			if r.Method == http.MethodGet && r.URL.Path != "/" {
				to += "?" + url.Values{"next": {r.URL.RequestURI()}}.Encode()
			}
			redirect(w, r, to)
			return
		}
		r = r.WithContext(project.WithRole(project.WithActor(r.Context(), f.Session.UserID), f.Session.Role))
		err := s.allow(w, r, rt, f)
		if p, ok := s.c.Registry.Snapshot().Project(f.Session.ProjectID); ok {
			f.Reads = p.Settings.MayRead(f.Session.Role)
		}
		f.Nav = s.nav(rt, f)
		var body templ.Component
		if err == nil && rt.raw != nil {
			rt.raw(w, r, f)
			return
		}
		if err == nil {
			body, err = rt.handle(r, f)
		}
		status := http.StatusOK
		if err != nil {
			e := s.told(r, err)
			status = e.HTTPStatus()
			switch {
			case rt.again != nil && f.form != nil:
				f.Problem, f.location = e, ""
				if body, err = rt.again(r, f); err == nil {
					break
				}
				e, f.Problem = s.told(r, err), nil
				fallthrough
			default:
				f.Title, body = "Error", problem(e)
			}
		}
		if f.location != "" {
			redirect(w, r, f.location)
			return
		}
		if f.Fragment {
			s.show(w, r, status, fragment(*f, body))
			return
		}
		f.Flash = f.takeFlash()
		s.show(w, r, status, layout(*f, body))
	})
}

// allow decides by the table. frame.form is set once a form is known to be the
// person's own.
func (s *Web) allow(w http.ResponseWriter, r *http.Request, rt route, f *frame) error {
	if rt.ofProject() {
		id := r.PathValue("project")
		i := slices.IndexFunc(f.Session.Projects, func(p ProjectName) bool { return p.ID == id })
		if i < 0 {
			return event.NewError(event.CodeNotFound, "there is no such project, or you are not a member of it", "choose a project in the sidebar, or ask an administrator for access", nil)
		}
		f.choose(f.Session.Projects[i])
	}
	if !f.Session.Role.Can(rt.need) {
		return event.NewError(event.CodeForbidden, "your role, "+string(f.Session.Role)+", does not allow this", "this needs the role "+string(rt.need)+"; ask an administrator", nil)
	}
	if r.Method != http.MethodPost {
		return nil
	}
	bound := rt.form
	if bound == 0 {
		bound = maxForm
	}
	r.Body = http.MaxBytesReader(w, r.Body, bound)
	parse := r.ParseForm
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		parse = func() error { return r.ParseMultipartForm(bound) }
	}
	if err := parse(); err != nil {
		return event.Invalid("the form could not be read", "go back and submit it again")
	}
	if !f.Session.owns(r.PostFormValue("csrf")) {
		return errForeign()
	}
	f.form = r.PostForm
	return nil
}

// redirect leads a browser on after a form, and htmx too, which would otherwise
// follow by itself and put the page into a fragment's place.
func redirect(w http.ResponseWriter, r *http.Request, to string) {
	if r.Header.Get("HX-Request") == "true" {
		w.Header().Set("HX-Redirect", to)
		w.WriteHeader(http.StatusOK)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}
