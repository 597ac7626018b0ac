package mcp

import (
	"context"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

type ledgerIn struct {
	Connection string `json:"connection,omitempty" jsonschema:"name of the connection. Default: the only one"`
	Limit      int    `json:"limit,omitempty" jsonschema:"maximum names per list, most frequent first; default: 200, at most 2000"`
}

// leftName is a property that left.
type leftName struct {
	Name  string    `json:"name"`
	Kinds []string  `json:"kinds" jsonschema:"kinds of its values: number, boolean, text, list, object or null"`
	Count int64     `json:"count" jsonschema:"of events"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// heldName is a property that stayed locally.
type heldName struct {
	Name      string    `json:"name"`
	Attribute bool      `json:"attribute" jsonschema:"true: of a span or resource; send_attributes names it. false: send_properties does"`
	Reason    string    `json:"reason" jsonschema:"content (known to contain prompts or responses), too_long, line_breaks, list_or_object, unknown_attribute, unknown_name, unusual_value, or quotes_content (the call's own content was found in it)"`
	Count     int64     `json:"count" jsonschema:"of events"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
}

type ledgerOut struct {
	Connection     string          `json:"connection"`
	PrivacyMode    bool            `json:"privacy_mode"`
	Left           []leftName      `json:"left" jsonschema:"every property name ever sent to PostHog; never a value"`
	Held           []heldName      `json:"held" jsonschema:"every property name that was withheld"`
	NotShown       int64           `json:"not_shown" jsonschema:"names not shown here, and properties whose names exceed the 2,000 that a list holds"`
	SendProperties []string        `json:"send_properties"`
	SendAttributes []string        `json:"send_attributes"`
	LegacyNames    *legacyNamesOut `json:"taken_over,omitempty" jsonschema:"names that are still sent since an upgrade, until they are allowed or blocked"`
}

type legacyNamesOut struct {
	At         time.Time `json:"at"`
	Properties []string  `json:"properties"`
	Attributes []string  `json:"attributes"`
}

type sendIn struct {
	Connection string   `json:"connection,omitempty" jsonschema:"name of the connection. Default: the only one"`
	Properties []string `json:"properties,omitempty" jsonschema:"names of properties set by callers"`
	Attributes []string `json:"attributes,omitempty" jsonschema:"names of attributes of spans and resources"`
	Send       *bool    `json:"send" jsonschema:"true: they are sent in privacy mode with any value, so ask the user first; false: privacy mode applies to them again"`
}

type legacyNamesIn struct {
	Connection string `json:"connection,omitempty" jsonschema:"name of the connection. Default: the only one"`
	Keep       *bool  `json:"keep" jsonschema:"true: these names continue to be sent to PostHog, so ask the user first; false: they are withheld from now on"`
}

type sendOut struct {
	Connection     string   `json:"connection"`
	SendProperties []string `json:"send_properties"`
	SendAttributes []string `json:"send_attributes"`
}

func (s *Server) addLedgerTools() {
	add(s, spec{
		name: "get_posthog_ledger", title: "Properties sent to PostHog", need: read,
		description: "List the names of all properties ever sent to a connection, and of those that privacy mode withheld, with the reason. Names, counts and times only, never values.",
	}, s.ledger)
	add(s, spec{
		name: "send_posthog_properties", title: "Allow or block properties", need: write, destructive: true,
		description: "Allow named properties or attributes to be sent to PostHog in privacy mode with any value, or block them again. Needs the role that can read content; recorded in the audit log.",
	}, s.sendNames)
	add(s, spec{
		name: "settle_posthog_names", title: "Allow or block names from before an upgrade", need: write, destructive: true,
		description: "After an upgrade: allow or block the property names that were sent before privacy mode had an allow list (taken_over of get_posthog_ledger).",
	}, s.decideLegacyNames)
}

const (
	shownNames = 200
	mostNames  = ledger.MaxNames
)

func (s *Server) ledger(ctx context.Context, who caller, in ledgerIn) (out ledgerOut, err error) {
	switch {
	case in.Limit == 0:
		in.Limit = shownNames
	case in.Limit < 0 || in.Limit > mostNames:
		return out, event.Invalid("the limit is out of range", "use 1 to 2000")
	}
	c, err := s.find(who.projectID, in.Connection)
	if err != nil {
		return out, err
	}
	page, err := s.c.Connections.Ledger(ctx, c)
	if err != nil {
		return out, err
	}
	out = ledgerOut{Connection: c.Name, PrivacyMode: c.PrivacyMode, Left: []leftName{}, Held: []heldName{}, NotShown: page.MoreSent + page.MoreWithheld,
		SendProperties: orNone(c.SendProperties), SendAttributes: orNone(c.SendAttributes)}
	for i, n := range page.Sent {
		if i == in.Limit {
			out.NotShown += int64(len(page.Sent) - i)
			break
		}
		out.Left = append(out.Left, leftName{n.Name, n.Kinds, n.Count, n.First, n.Last})
	}
	for i, n := range page.Withheld {
		if i == in.Limit {
			out.NotShown += int64(len(page.Withheld) - i)
			break
		}
		out.Held = append(out.Held, heldName{n.Name, n.Attribute, string(n.Reason), n.Count, n.First, n.Last})
	}
	if t := c.LegacyNames; t != nil {
		out.LegacyNames = &legacyNamesOut{t.At, orNone(t.Properties), orNone(t.Attributes)}
	}
	return out, nil
}

func (s *Server) sendNames(ctx context.Context, who caller, in sendIn) (out sendOut, err error) {
	switch {
	case in.Send == nil:
		return out, event.Invalid(`the argument "send" is missing`, "pass true to send the names, false to stop")
	case len(in.Properties)+len(in.Attributes) == 0:
		return out, event.Invalid("no names were given", "pass properties or attributes, as listed by get_posthog_ledger")
	}
	c, err := s.find(who.projectID, in.Connection)
	if err != nil {
		return out, err
	}
	return s.changed(s.c.Registry.UpdateConnection(ctx, who.projectID, c.ID, func(c *project.Connection) error {
		c.Send(*in.Send, in.Properties, in.Attributes)
		return nil
	}))
}

func (s *Server) decideLegacyNames(ctx context.Context, who caller, in legacyNamesIn) (out sendOut, err error) {
	if in.Keep == nil {
		return out, event.Invalid(`the argument "keep" is missing`, "pass true to keep sending the names, false to stop")
	}
	c, err := s.find(who.projectID, in.Connection)
	if err != nil {
		return out, err
	}
	if c.LegacyNames == nil {
		return out, event.NewError(event.CodeConflict, "there are no names to allow or block", "get_posthog_ledger shows what is sent", nil)
	}
	return s.changed(s.c.Registry.UpdateConnection(ctx, who.projectID, c.ID, func(c *project.Connection) error { c.DecideLegacyNames(*in.Keep); return nil }))
}

func (s *Server) changed(c project.Connection, err error) (sendOut, error) {
	if err != nil {
		return sendOut{}, err
	}
	return sendOut{c.Name, orNone(c.SendProperties), orNone(c.SendAttributes)}, nil
}

func orNone(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
