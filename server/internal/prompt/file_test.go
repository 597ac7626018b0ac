package prompt_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
)

func sample() prompt.File {
	return prompt.File{Name: "support_answer", Description: "Answers a ticket", Version: 3, Draft: prompt.Draft{
		Messages: []prompt.Message{
			{Role: "system", Content: "You answer tickets of {{shop}}.\n\nBe brief: at most {{sentences}} sentences.\n"},
			{Role: "user", Content: "{{ticket}}"},
		},
		Variables: []prompt.Variable{{Name: "shop", Type: "string", Default: "Elm Street"}, {Name: "sentences", Type: "integer", Default: 3}, {Name: "ticket", Type: "string", Description: "the customer's words"}},
		Provider:  "openai", Model: "gpt-4.1-mini", Params: map[string]any{"temperature": 0.2}, Note: "shorter",
	}}
}

// The file's form is what people keep next to their code: it must not change
// unseen.
func TestFileGolden(t *testing.T) {
	for _, ext := range []string{"yaml", "json"} {
		got, err := sample().YAML()
		if ext == "json" {
			got, err = sample().JSON()
		}
		must(t, err)
		path := filepath.Join("testdata", "support_answer."+ext)
		if os.Getenv("UPDATE") != "" {
			must(t, os.WriteFile(path, got, 0o644))
		}
		want, err := os.ReadFile(path)
		must(t, err)
		if string(got) != string(want) {
			t.Errorf("%s is\n%s\nwant\n%s", path, got, want)
		}
		f, err := prompt.ParseFile(got)
		must(t, err)
		if a, b := mustJSON(t, f), mustJSON(t, sample()); a != b {
			t.Errorf("read back as\n%s\nwant\n%s", a, b)
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return string(b)
}

func TestImport(t *testing.T) {
	r, _ := open(t, bucketOf(t))
	v, added, err := r.Import(t.Context(), ann, shop, sample())
	must(t, err)
	if !added || v.Number != 1 {
		t.Errorf("imported as version %d, added %v", v.Number, added)
	}
	// What is exported is what was imported, and imports as nothing new, from
	// either format.
	f, err := r.Export(shop, "support_answer", "")
	must(t, err)
	y, err := f.YAML()
	must(t, err)
	j, err := f.JSON()
	must(t, err)
	for _, file := range [][]byte{y, j} {
		f, err := prompt.ParseFile(file)
		must(t, err)
		f.Description = "Answers any ticket"
		if v, added, err = r.Import(t.Context(), ann, shop, f); err != nil || added || v.Number != 1 {
			t.Errorf("imported again: version %d, added %v, %v", v.Number, added, err)
		}
	}
	if p, _ := r.Prompt(shop, "support_answer"); p.Description != "Answers any ticket" {
		t.Errorf("described as %q", p.Description)
	}
	f.Model = "gpt-4.1"
	if v, added, err = r.Import(t.Context(), ann, shop, f); err != nil || !added || v.Number != 2 {
		t.Errorf("a change is version %d, added %v, %v", v.Number, added, err)
	}
	for name, file := range map[string]string{
		"empty": "", "no name": "messages: []", "unknown field": "name: x\nmesages: []", "a list": "- 1", "two": "name: x\n---\nname: y", "no YAML": "name: [",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := prompt.ParseFile([]byte(file))
			wantCode(t, err, event.CodeInvalid)
		})
	}
	_, err = r.Export(shop, "support_answer", "9")
	wantCode(t, err, event.CodeNotFound)
}

func FuzzParseFile(f *testing.F) {
	for _, name := range []string{"support_answer.yaml", "support_answer.json"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := prompt.ParseFile(b)
		if err != nil {
			return
		}
		// What can be read can be written, and hashes the same ever after.
		y, err := file.YAML()
		if err != nil {
			t.Skip() // a default that no JSON has is rejected when it is kept
		}
		if again, err := prompt.ParseFile(y); err == nil && prompt.ContentHash(again.Draft) != prompt.ContentHash(file.Draft) {
			t.Errorf("another content after a round trip:\n%s", y)
		}
	})
}
