package settings

import (
	"net/http"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// names is what the ledger says of a connection.
type names struct {
	ledger.Page
	Err  *event.Error // it cannot be read
	All  bool         // every name is shown, not the first ones
	Sent map[string]bool
}

// shownNames is how many names of each list the page of a connection shows.
const shownNames = 20

// sentKey is how Sent knows a name.
func sentKey(attribute bool, name string) string {
	if attribute {
		return "a " + name
	}
	return "p " + name
}

// sends reports whether a withheld name is sent now.
func (n names) sends(h ledger.WithheldName) bool { return n.Sent[sentKey(h.Attribute, h.Name)] }

func (n names) left() []ledger.SentName {
	if n.All {
		return n.Page.Sent
	}
	return n.Page.Sent[:min(shownNames, len(n.Page.Sent))]
}

func (n names) held() []ledger.WithheldName {
	if n.All {
		return n.Page.Withheld
	}
	return n.Page.Withheld[:min(shownNames, len(n.Page.Withheld))]
}

// cut reports whether there is more than is shown.
func (n names) cut() bool {
	return len(n.left()) < len(n.Page.Sent) || len(n.held()) < len(n.Page.Withheld)
}

// namesOf reads the ledger. That it cannot be read is no reason to show no page.
func (s *Pages) namesOf(r *http.Request, c project.Connection, all bool) names {
	n := names{All: all, Sent: make(map[string]bool)}
	for _, name := range c.SendProperties {
		n.Sent[sentKey(false, name)] = true
	}
	for _, name := range c.SendAttributes {
		n.Sent[sentKey(true, name)] = true
	}
	var err error
	if n.Page, err = s.Delivery.Ledger(r.Context(), c); err != nil {
		n.Err = event.AsError(err)
	}
	return n
}

// ledger lists every name.
func (s *Pages) ledger(r *http.Request, f *page.Frame) (templ.Component, error) {
	c, err := s.conn(r, f)
	if err != nil {
		return nil, err
	}
	f.Title = "Properties sent and withheld: " + c.Name
	return ledgerPage(*f, connectionRow{c, s.Delivery.Delivery(c)}, s.namesOf(r, c, true)), nil
}

// sendNames starts or stops sending one name.
func (s *Pages) sendNames(r *http.Request, f *page.Frame) (templ.Component, error) {
	c, err := s.conn(r, f)
	if err != nil {
		return nil, err
	}
	name, on := f.Form.Get("name"), f.Form.Get("on") == "true"
	if name == "" {
		return nil, event.Invalid("the property name is missing", "choose one from the list")
	}
	var properties, attributes []string
	if f.Form.Get("attribute") == "true" {
		attributes = []string{name}
	} else {
		properties = []string{name}
	}
	_, err = s.Registry.UpdateConnection(r.Context(), f.Session.ProjectID, c.ID, func(c *project.Connection) error {
		c.Send(on, properties, attributes)
		return nil
	})
	if err != nil {
		return nil, err
	}
	message := name + " is no longer sent, unless it is on privacy mode’s built-in allow list."
	if on {
		message = name + " is now sent to PostHog with any value."
	}
	return f.Done(f.Path("/connections/"+c.ID), message)
}

// settleNames keeps or stops what an upgrade took over.
func (s *Pages) settleNames(r *http.Request, f *page.Frame) (templ.Component, error) {
	c, err := s.conn(r, f)
	if err != nil {
		return nil, err
	}
	keep := f.Form.Get("keep") == "true"
	_, err = s.Registry.UpdateConnection(r.Context(), f.Session.ProjectID, c.ID, func(c *project.Connection) error { c.DecideLegacyNames(keep); return nil })
	if err != nil {
		return nil, err
	}
	message := "These properties are no longer sent."
	if keep {
		message = "These properties are now always sent to PostHog."
	}
	return f.Done(f.Path("/connections/"+c.ID), message)
}

// reasons describe why names are not sent.
var reasons = map[string]string{
	"content": "the name is known to carry prompts or responses", "too_long": "text longer than 200 characters", "line_breaks": "text with more than one line",
	"list_or_object": "a list or an object", "unknown_attribute": "attribute not on the allow list", "unknown_name": "name not on the allow list",
	"unusual_value": "value type unusual for this name", "quotes_content": "quotes the call’s content",
}

func reasonText(reason string) string {
	if s := reasons[reason]; s != "" {
		return s
	}
	return strings.ReplaceAll(reason, "_", " ")
}

// takenNames are the names that wait for a person's word, in one list.
func takenNames(t *project.LegacyNames) []string {
	return slices.Concat(t.Properties, t.Attributes)
}
