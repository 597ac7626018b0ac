package privacy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/internal/privacy"
)

var marks = regexp.MustCompile(`\[secret:[a-z0-9_]+\]|\[card\]`)

// corpus returns up to most bytes of the files of one kind below the roots, in
// a fixed order that includes all of them.
func corpus(t *testing.T, most int, ext string, skip *regexp.Regexp, roots ...string) (docs [][]byte, size int) {
	var names []string
	for _, root := range roots {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(path, ext) && !skip.MatchString(path) {
				names = append(names, path)
			}
			return nil
		})
	}
	r := rand.New(rand.NewPCG(1, 8))
	r.Shuffle(len(names), func(i, k int) { names[i], names[k] = names[k], names[i] })
	for _, n := range names {
		if size >= most {
			break
		}
		b, err := os.ReadFile(n)
		if err != nil || len(b) > 512<<10 {
			continue
		}
		docs = append(docs, b)
		size += len(b)
	}
	return docs, size
}

// TestScrubLeavesTheInnocent scrubs text without secrets: the documentation,
// the source code and the JSON files of Go and of the modules that hedgerow
// uses. Less than one word in 1,000 may be treated as a secret. Test files are
// excluded, since they contain keys made for tests.
func TestScrubLeavesTheInnocent(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	roots := []string{strings.TrimSpace(string(out)), "../.."}
	if out, err = exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "all").Output(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range strings.Fields(string(out)) {
		if strings.Contains(dir, "@") {
			roots = append(roots, dir)
		}
	}
	skip := regexp.MustCompile(`_test\.go$|/testdata/|/test/|\.git/|gitleaks|/secrets|scrub`)
	for _, kind := range []struct {
		name, ext string
		most      int
		least     int
	}{{"prose", ".md", 4 << 20, 500 << 10}, {"code", ".go", 16 << 20, 8 << 20}, {"JSON", ".json", 4 << 20, 100 << 10}} {
		t.Run(kind.name, func(t *testing.T) {
			docs, size := corpus(t, kind.most, kind.ext, skip, roots...)
			if size < kind.least {
				t.Fatalf("only %d bytes in %d files", size, len(docs))
			}
			words, lines, hits := 0, 0, 0
			shown := map[string]int{}
			for _, doc := range docs {
				words += len(bytes.Fields(doc))
				lines += bytes.Count(doc, []byte("\n"))
				got := privacy.ScrubText(string(doc), false)
				if kind.name == "JSON" && json.Valid(doc) {
					got = string(privacy.ScrubJSON(doc, false))
				}
				if got == string(doc) {
					continue
				}
				for _, m := range marks.FindAllString(got, -1) {
					hits++
					shown[m]++
				}
				if os.Getenv("SHOW_HITS") != "" {
					for _, line := range strings.Split(got, "\n") {
						if marks.MatchString(line) {
							t.Log(line[max(0, marks.FindStringIndex(line)[0]-120):min(len(line), marks.FindStringIndex(line)[1]+40)])
						}
					}
				}
			}
			var list []string
			for m, n := range shown {
				list = append(list, fmt.Sprintf("%s %d", m, n))
			}
			sort.Strings(list)
			t.Logf("%d files, %d words, %d lines: %d treated as secrets, %.3f in 1,000 words, %.3f in 1,000 lines: %s", len(docs), words, lines, hits,
				1000*float64(hits)/float64(words), 1000*float64(hits)/float64(lines), strings.Join(list, ", "))
			if hits*1000 > words {
				t.Errorf("%d of %d words", hits, words)
			}
		})
	}
}

// TestScrubLeavesIDs generates ids of the usual forms, alone and in typical
// text: none may be treated as a secret.
func TestScrubLeavesIDs(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 12))
	pick := func(alphabet string, n int) string { return letters(r, alphabets[alphabet], n) }
	kinds := map[string]func() string{
		"uuid":            func() string { return uuid(r) },
		"UUID":            func() string { return strings.ToUpper(uuid(r)) },
		"git commit":      func() string { return pick("hex", 40) },
		"short commit":    func() string { return pick("hex", 7) },
		"md5":             func() string { return pick("hex", 32) },
		"sha256":          func() string { return "sha256:" + pick("hex", 64) },
		"integrity":       func() string { return "sha512-" + pick("b64", 86) + "==" },
		"go.sum":          func() string { return "h1:" + pick("b64", 43) + "=" },
		"trace id":        func() string { return pick("hex", 32) },
		"traceparent":     func() string { return "00-" + pick("hex", 32) + "-" + pick("hex", 16) + "-01" },
		"ulid":            func() string { return "01" + pick("upper", 24) },
		"nanoid":          func() string { return pick("b64url", 21) },
		"ksuid":           func() string { return pick("alnum", 27) },
		"objectid":        func() string { return pick("hex", 24) },
		"completion":      func() string { return "chatcmpl-" + pick("alnum", 29) },
		"response":        func() string { return "resp_" + pick("hex", 48) },
		"message":         func() string { return "msg_01" + pick("alnum", 22) },
		"tool call":       func() string { return "call_" + pick("alnum", 24) },
		"tool use":        func() string { return "toolu_01" + pick("alnum", 22) },
		"request":         func() string { return "req_" + pick("hex", 32) },
		"file":            func() string { return "file-" + pick("alnum", 22) },
		"assistant":       func() string { return "asst_" + pick("alnum", 24) },
		"thread":          func() string { return "thread_" + pick("alnum", 24) },
		"batch":           func() string { return "batch_" + pick("hex", 32) },
		"run":             func() string { return "run-" + uuid(r) },
		"fingerprint":     func() string { return "fp_" + pick("hex", 10) },
		"stripe customer": func() string { return "cus_" + pick("alnum", 14) },
		"stripe price":    func() string { return "price_" + pick("alnum", 24) },
		"publishable":     func() string { return "pk_live_" + pick("alnum", 24) },
		"project token":   func() string { return "phc_" + pick("alnum", 43) },
		"number":          func() string { return pick("digit", 10) },
		"nanoseconds":     func() string { return "17" + pick("digit", 17) },
		"base64 image":    func() string { return "data:image/png;base64,iVBORw0KGgo" + pick("b64", 600) },
		"base64 text":     func() string { return pick("b64", 200) },
		"model": func() string {
			return []string{"gpt-4.1-mini-2025-04-14", "gpt-5.2", "claude-sonnet-4-5-20250929", "gemini-2.5-flash-preview-09-2025", "anthropic.claude-3-5-sonnet-20241022-v2:0", "llama-3.3-70b-versatile", "ft:gpt-4o-mini-2024-07-18:acme::" + pick("alnum", 8), "mistral.mistral-large-2402-v1:0", "text-embedding-3-small", "deepseek-r1-distill-llama-70b", "sk-learn-pipeline-v2"}[r.IntN(11)]
		},
		"IPv6":    func() string { return "2001:db8:85a3::8a2e:370:7334" },
		"version": func() string { return "v0.0.0-20260131120000-" + pick("hex", 12) },
		"ARN":     func() string { return "arn:aws:iam::" + pick("digit", 12) + ":role/app-" + pick("lower", 8) },
		"URL": func() string {
			return "https://example.com:8443/a/" + pick("hex", 16) + "/b@" + pick("digit", 2) + "?id=" + uuid(r)
		},
		"timestamp": func() string { return "2026-01-31T12:00:00." + pick("digit", 9) + "Z" },
	}
	places := []func(id string) string{
		func(id string) string { return id },
		func(id string) string { return "the id is " + id + ", see the log" },
		func(id string) string { return `{"id":"` + id + `","trace_id": "` + id + `", "name":"x"}` },
		func(id string) string {
			return "request_id=" + id + " session=" + id + " commit=" + id + " etag: " + id
		},
		func(id string) string { return "https://app.example.com/runs/" + id + "?sort=name#" + id },
		func(id string) string {
			return "id: " + id + "\nhash: " + id + "\nkey: " + id + "\nnext_page_token: " + id
		},
		func(id string) string { return id + "\n" + id + "\r\n" + id + " " + id },
		func(id string) string { return "x = \"" + id + "\" +\n    \"" + id + "\"" },
	}
	made := 0
	for name, kind := range kinds {
		for range 400 {
			id := kind()
			for _, place := range places {
				doc := place(id)
				made++
				if got := privacy.ScrubText(doc, false); got != doc {
					t.Fatalf("%s: %q became %q", name, doc, got)
				}
				if got, want := string(privacy.ScrubJSON([]byte(inJSON(doc)), false)), inJSON(doc); got != want {
					t.Fatalf("%s: %s became %s", name, want, got)
				}
			}
		}
	}
	t.Logf("%d documents with ids of %d kinds", made, len(kinds))
}

func uuid(r *rand.Rand) string {
	h := letters(r, alphabets["hex"], 32)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]
}
