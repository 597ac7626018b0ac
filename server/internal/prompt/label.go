package prompt

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// The labels that every team has. Others are named as they like.
const (
	Production = "production" // the label used without a version or label
	Staging    = "staging"
	// Latest always means the newest version. It is no label that could be moved.
	Latest = "latest"
)

// Label is a name for a version that can be moved.
type Label struct {
	Name      string    `json:"name"`
	Version   int       `json:"version"`
	VersionID string    `json:"version_id"`
	Moved     time.Time `json:"moved_at"`
	By        string    `json:"by"`
	// History are its moves, newest first, the present one included; at most 100.
	History []Move `json:"history"`
}

// Move is one move of a label.
type Move struct {
	From   int       `json:"from,omitempty"` // 0: the label was new
	To     int       `json:"to"`             // 0 if the label was removed
	Time   time.Time `json:"time"`
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
}

const maxHistory = 100

// numeric names would be treated as a version's number, and pv_… for its id.
var labelName = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,49}$`)

func checkLabel(label string) (string, error) {
	label = strings.ToLower(strings.TrimSpace(label))
	if !labelName.MatchString(label) || strings.HasPrefix(label, "pv_") {
		return "", event.Invalid("a label starts with a letter and has up to 50 letters, digits, _, - and .", "for example production, staging or canary-eu")
	}
	if label == Latest {
		return "", event.Invalid("latest always means the newest version", "choose another label")
	}
	return label, nil
}

// SetLabel moves a label to a version atomically. ref is a version as in
// [Registry.Version]; "" is not accepted. It creates a new label. reason is
// stored in its history.
func (r *Registry) SetLabel(ctx context.Context, actor, projectID, name, label, ref, reason string) error {
	label, err := checkLabel(label)
	if err != nil {
		return err
	}
	if ref == "" {
		return event.Invalid("no version to move the label to", "use the version's number or ID")
	}
	p, ok := r.b.View().prompt(projectID, name)
	if !ok {
		return noPrompt(name)
	}
	v, ok := p.version(ref)
	if !ok {
		return noVersion(name, ref)
	}
	return r.moveLabel(ctx, actor, p, label, v, reason)
}

// RemoveLabel removes a label. Requests for it then fail; without production,
// a reference without a version selects the newest one.
func (r *Registry) RemoveLabel(ctx context.Context, actor, projectID, name, label, reason string) error {
	p, ok := r.b.View().prompt(projectID, name)
	if !ok {
		return noPrompt(name)
	}
	if _, ok := p.Labels[label]; !ok {
		return event.NewError(event.CodeNotFound, fmt.Sprintf("the prompt has no label %q", event.FirstChars(label, 50)), "see the prompt for its labels", nil)
	}
	return r.moveLabel(ctx, actor, p, label, nil, reason)
}

// moveLabel moves a label, or removes it if v is nil.
func (r *Registry) moveLabel(ctx context.Context, actor string, p *held, label string, v *Version, reason string) error {
	reason = event.FirstChars(strings.TrimSpace(reason), maxNote)
	now, moved := r.now().UTC(), false
	var from int
	err := r.change(ctx, p, func(rec *record) error {
		l, ok := rec.Labels[label]
		from = l.Version
		switch {
		case v == nil && !ok, v != nil && ok && l.VersionID == v.ID:
			moved = false
			return nil
		case v != nil && !ok && len(rec.Labels) >= maxLabels:
			return event.Invalid(fmt.Sprintf("a prompt has at most %d labels", maxLabels), "remove one first")
		}
		moved = true
		move := Move{From: l.Version, Time: now, By: actor, Reason: reason}
		if v == nil {
			delete(rec.Labels, label)
			return nil
		}
		move.To = v.Number
		history := append([]Move{move}, l.History...)
		if rec.Labels == nil {
			rec.Labels = map[string]Label{}
		}
		rec.Labels[label] = Label{Name: label, Version: v.Number, VersionID: v.ID, Moved: now, By: actor, History: history[:min(len(history), maxHistory)]}
		rec.Updated = now
		return nil
	})
	if err != nil || !moved {
		return err
	}
	to := "removed"
	if v != nil {
		to = fmt.Sprintf("%s → v%d", label, v.Number)
		if from != 0 {
			to = fmt.Sprintf("%s v%d → v%d", label, from, v.Number)
		}
	} else {
		to = label + " " + to
	}
	if reason != "" {
		to += ": " + reason
	}
	r.audit(ctx, actor, "prompt.label", p.Project, p.Name, to)
	return nil
}

const maxLabels = 50

// cloneLabels copies labels deeply enough that a change of the copy is not one
// of the view.
func cloneLabels(labels map[string]Label) map[string]Label {
	out := make(map[string]Label, len(labels))
	for k, l := range labels {
		l.History = slices.Clone(l.History)
		out[k] = l
	}
	return out
}
