package price_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
)

func TestSaveLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prices.json")
	want := price.Overlay{Source: "https://example.com/models", Date: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC), Rows: rows(t, testPrices)}
	for range 2 { // the second time over the first
		if err := price.Save(path, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := price.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.Source != want.Source || !got.Date.Equal(want.Date) || len(got.Rows) != len(want.Rows) {
		t.Fatalf("%+v", got)
	}
	for i, r := range got.Rows {
		a, _ := r.MarshalJSON()
		b, _ := want.Rows[i].MarshalJSON()
		if !bytes.Equal(a, b) || r.Origin != event.CostSynced {
			t.Errorf("%s became %s (%s)", b, a, r.Origin)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := price.Save(path, price.Overlay{}); err != nil {
		t.Fatal(err)
	}
	if got, err := price.Load(path); err != nil || len(got.Rows) != 0 {
		t.Errorf("an empty overlay: %v, %v", got, err)
	}
}

// TestSaveIsAtomic: who reads while others write sees one sheet or the other.
func TestSaveIsAtomic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prices.json")
	sheet := func(n int) price.Overlay {
		all := price.Default().Rows()
		return price.Overlay{Source: fmt.Sprint(n), Rows: all[:n]}
	}
	if err := price.Save(path, sheet(300)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, n := range []int{10, 300} {
		wg.Go(func() {
			for range 10 {
				if err := price.Save(path, sheet(n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 30 {
			o, err := price.Load(path)
			if err != nil {
				t.Error(err)
			} else if fmt.Sprint(len(o.Rows)) != o.Source {
				t.Errorf("%d rows of the sheet of %s", len(o.Rows), o.Source)
			}
		}
	})
	wg.Wait()
}

func TestSaveError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no", "such", "folder", "prices.json")
	var e *event.Error
	if err := price.Save(path, price.Overlay{}); !errors.As(err, &e) || e.Hint == "" {
		t.Errorf("got %v", err)
	}
	// A target that cannot be replaced leaves nothing behind.
	dir := t.TempDir()
	path = filepath.Join(dir, "prices.json")
	if err := os.MkdirAll(filepath.Join(path, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := price.Save(path, price.Overlay{}); !errors.As(err, &e) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := price.Load(filepath.Join(dir, "nope")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	for name, text := range map[string]string{
		"empty":        "",
		"cut off":      `{"version":1,"unit":"x","rows":[{"provider":"openai","model":"gpt-4o","inp`,
		"nonsense":     "\x00\x01\x02",
		"newer":        `{"version":2,"rows":[]}`,
		"unknown key":  `{"version":1,"rows":[{"provider":"openai","model":"x","input":1,"blue":1}]}`,
		"no provider":  `{"version":1,"rows":[{"model":"x","input":1}]}`,
		"bad price":    `{"version":1,"rows":[{"provider":"openai","model":"x","input":-1}]}`,
		"bad date":     `{"version":1,"date":"today","rows":[]}`,
		"written over": `{"version":1,"rows":[]}{"version":1,"rows":[]}`,
	} {
		path := filepath.Join(dir, "prices.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := price.Load(path)
		var e *event.Error
		if !errors.As(err, &e) || !strings.Contains(e.Message, path) || !strings.Contains(e.Hint, "hedgerow prices sync") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := price.Load(dir); err == nil {
		t.Error("a folder was read")
	}
}
