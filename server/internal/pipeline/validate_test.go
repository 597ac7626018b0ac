package pipeline_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/outbound"
	"github.com/hedgerow/hedgerow/server/internal/pipeline"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// TestValidatedOnce follows events from the receiver to the store and to what
// leaves. Their raw JSON is validated once: by ingest, which marks them, or
// else by normalising. A value that is put in after that, and is not JSON, is
// not noticed by any later stage: one that validated again would reject or
// repair it.
func TestValidatedOnce(t *testing.T) {
	broken := json.RawMessage("01") // one token for every reader, and no number of JSON's
	if event.ValidJSON(broken) {
		t.Fatal("it is valid")
	}
	breakIt := func(e *event.Event) {
		e.Properties = map[string]json.RawMessage{"mine": broken}
		e.ModelParameters = map[string]json.RawMessage{"top_k": broken}
	}
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: t.TempDir() + "/s.duckdb"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct {
		name         string
		before, then func(*event.Event)
		noticed      bool
	}{
		{"validated by its receiver", func(e *event.Event) { breakIt(e); e.MarkRawValid() }, nil, false},
		{"validated by normalising", nil, breakIt, false},
		{"not validated before", breakIt, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			next := &kept{}
			p := open(t, next, pipeline.Config{Price: c.then})
			e := call()
			if c.before != nil {
				c.before(e)
			}
			if err := p.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			read := next.events[0] // from its frame
			want := string(broken)
			if c.noticed {
				want = `"01"`
			}
			if got := string(read.Properties["mine"]); got != want {
				t.Errorf("the journal has %s, want %s", got, want)
			}
			if res, err := s.Write(t.Context(), []*event.Event{read}); err != nil || len(res.Stored) != 1 {
				t.Errorf("the store: %d stored, %v", len(res.Stored), err)
			}
			for _, schema := range []event.Schema{event.SchemaPostHog, event.SchemaLLMEvents, event.SchemaBoth} {
				conn := project.NewConnection(project.DefaultID, "c")
				conn.Schema, conn.SendProperties = schema, []string{"*"}
				leaving := outbound.Convert(conn, project.Project{}, read).Events
				if len(leaving) == 0 {
					t.Errorf("%s: nothing leaves", schema)
				}
				for _, out := range leaving {
					body, err := out.MarshalPostHog(event.Wire{})
					if err != nil || !strings.Contains(string(body), `"mine":`+want) {
						t.Errorf("%s, %s: %v %s", schema, out.Name, err, body)
					}
				}
			}
		})
	}
}
