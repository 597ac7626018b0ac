package app

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/backup"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/kv"
)

// TestSubmissions keeps the newest, for 30 days, across a restart.
func TestSubmissions(t *testing.T) {
	dir := t.TempDir()
	open := func() (*submissions, func()) {
		j, err := journal.Open(t.Context(), journal.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		bucket, err := j.KeyValue(t.Context(), backup.BatchesBucket, 1)
		if err != nil {
			t.Fatal(err)
		}
		c, err := kv.OpenCollection[submission](t.Context(), bucket, kv.CollectionConfig{Noun: "batch"})
		if err != nil {
			t.Fatal(err)
		}
		s := &submissions{most: 3}
		s.open.Store(c)
		return s, func() { _ = c.Close(); _ = j.Close(context.Background()) }
	}
	if s := new(submissions); s.Load("p1", "batch_1") != nil || s.Save(t.Context(), "p1", "batch_1", []byte(`{}`)) == nil {
		t.Error("what is not open kept something")
	}
	s, end := open()
	long := submission{"p1", "batch_old", time.Now().Add(-31 * 24 * time.Hour), json.RawMessage(`{}`)}
	if err := s.open.Load().Create(t.Context(), "p1", "batch_old", long); err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		if err := s.Save(t.Context(), "p1", fmt.Sprint("batch_", n), fmt.Appendf(nil, `{"n":%d}`, n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Save(t.Context(), "p1", "batch_4", []byte(`{"n":44}`)); err != nil {
		t.Fatal(err)
	}
	end()
	s, end = open()
	defer end()
	for id, want := range map[string]string{"batch_old": "", "batch_0": "", "batch_1": "", "batch_2": `{"n":2}`, "batch_3": `{"n":3}`, "batch_4": `{"n":44}`} {
		if got := string(s.Load("p1", id)); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	if s.Load("p2", "batch_4") != nil || len(s.IDs("p2")) != 0 {
		t.Error("another project's was found")
	}
	if ids := s.IDs("p1"); fmt.Sprint(ids) != "[batch_2 batch_3 batch_4]" {
		t.Errorf("the ids are %v", ids)
	}
}
