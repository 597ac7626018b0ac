package settings

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

const auditPerPage = 50

// auditPage is who changed what, the newest first, a page at a time.
type auditPage struct {
	Entries  []auditLine
	Project  string // filter
	Projects []project.Project
	Before   string // entry that the page begins after; "" for the newest
	Next     string // entry that the next page begins after; "" at the end
}

// auditLine is an entry with names in place of ids, for those that still exist.
type auditLine struct {
	project.AuditEntry
	ActorName, TargetName, ProjectName string
}

func (s *Pages) audit(r *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Audit log"
	v := r.URL.Query()
	snap := s.Registry.Snapshot()
	p := auditPage{Project: v.Get("project"), Projects: snap.Projects(), Before: v.Get("before")}
	list := s.Registry.AuditLog(p.Project, 0)
	// Ids are in the order of time: a cursor stays valid even if its entry is
	// deleted.
	if p.Before != "" {
		i := slices.IndexFunc(list, func(e project.AuditEntry) bool { return e.ID < p.Before })
		if i < 0 {
			i = len(list)
		}
		list = list[i:]
	}
	if len(list) > auditPerPage {
		list = list[:auditPerPage]
		p.Next = list[auditPerPage-1].ID
	}
	for _, e := range list {
		l := auditLine{AuditEntry: e, ActorName: e.Actor, TargetName: e.Target, ProjectName: e.ProjectID}
		if u, ok := snap.User(e.Actor); ok {
			l.ActorName = cmp.Or(u.Email, userName(u))
		}
		if u, ok := snap.User(e.Target); ok {
			l.TargetName = cmp.Or(u.Email, userName(u))
		}
		if pr, ok := snap.Project(e.ProjectID); ok {
			l.ProjectName = pr.Name
		}
		p.Entries = append(p.Entries, l)
	}
	return audit(*f, p), nil
}

func (p auditPage) url(before string) templ.SafeURL {
	v := url.Values{}
	if p.Project != "" {
		v.Set("project", p.Project)
	}
	if before != "" {
		v.Set("before", before)
	}
	return templ.SafeURL("/audit?" + v.Encode())
}
