package ingest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

type nowhere struct{}

func (nowhere) Append(context.Context, ...*event.Event) error { return nil }

func TestProject(t *testing.T) {
	h, err := ingest.New(ingest.Config{Projects: func() *project.Snapshot { return settings.snap }, Append: nowhere{}})
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]string{settings.def.Token: settings.def.ID, settings.bare.Token: settings.bare.ID, posthogKey: settings.def.ID, settings.member: settings.def.ID} {
		if got, err := h.Project(token); err != nil || got != want {
			t.Errorf("Project = %q, %v; want %q", got, err, want)
		}
	}
	for _, token := range []string{"", settings.viewer, personalKey, disabledKey, "phc_unknown"} {
		_, err := h.Project(token)
		var e *event.Error
		want := event.CodeUnauthorized
		if token == settings.viewer {
			want = event.CodeForbidden
		}
		if !errors.As(err, &e) || e.Code != want {
			t.Errorf("Project of a token that may not write: %v", err)
		}
	}
}
