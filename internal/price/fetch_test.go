package price_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
)

func TestFetch(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "models.json")
	if err := os.WriteFile(file, []byte("list"), 0o600); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/list", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "application/json" || r.Header.Get("User-Agent") != "hedgerow" {
			t.Errorf("headers %v", r.Header)
		}
		io.WriteString(w, "list")
	})
	mux.Handle("/moved", http.RedirectHandler("/list", http.StatusFound))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	for _, from := range []string{srv.URL + "/list", srv.URL + "/moved?key=sk-secret", file, "file://" + file, "file://localhost" + file} {
		r, err := price.Fetch(t.Context(), srv.Client(), from)
		if err != nil {
			t.Errorf("%s: %v", from, err)
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil || string(b) != "list" {
			t.Errorf("%s: %q, %v", from, b, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", from, err)
		}
	}
}

func TestFetchErrors(t *testing.T) {
	dir := t.TempDir()
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "body with sk-secret", code) }
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/404", status(404))
	mux.HandleFunc("/403", status(403))
	mux.HandleFunc("/500", status(500))
	mux.HandleFunc("/204", status(204))
	mux.HandleFunc("/huge", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "99999999999")
		w.WriteHeader(200)
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for block := make([]byte, 1<<20); ; {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "{")
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	gone := httptest.NewServer(mux)
	gone.Close()
	late, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()

	tests := []struct {
		name, from string
		ctx        context.Context
		code       event.Code
		want       string
	}{
		{"nothing", "", nil, event.CodeInvalid, "no list of prices is named"},
		{"no such file", filepath.Join(dir, "nope.json"), nil, event.CodeNotFound, "nope.json not found"},
		{"a folder", dir, nil, event.CodeInvalid, "is a folder"},
		{"another machine's file", "file://host/x.json", nil, event.CodeInvalid, "three slashes"},
		{"another scheme", "ftp://user:sk-secret@example.com/x?key=sk-secret", nil, event.CodeInvalid, "cannot be read"},
		{"an address that is none", "http://[::1", nil, event.CodeInvalid, "cannot be read"},
		{"404", srv.URL + "/404?key=sk-secret", nil, event.CodeUpstream, "404 Not Found"},
		{"403", srv.URL + "/403", nil, event.CodeUpstream, "needs no key"},
		{"500", srv.URL + "/500", nil, event.CodeUpstream, "500"},
		{"204", srv.URL + "/204", nil, event.CodeUpstream, "204"},
		{"too large by its own word", srv.URL + "/huge", nil, event.CodeTooLarge, "larger than 32 MB"},
		{"too large", srv.URL + "/endless?key=sk-secret", nil, event.CodeTooLarge, "larger than 32 MB"},
		{"cut off", srv.URL + "/cut", nil, event.CodeUpstream, "unexpected EOF"},
		{"refused", gone.URL + "/list?key=sk-secret", nil, event.CodeUpstream, "refused"},
		{"too slow", srv.URL + "/slow?key=sk-secret", late, event.CodeTimeout, "took too long"},
		{"canceled", srv.URL + "/slow", canceled, event.CodeCanceled, "broken off"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := tt.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			r, err := price.Fetch(ctx, srv.Client(), tt.from)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
			var e *event.Error
			if !errors.As(err, &e) || e.Code != tt.code || e.Hint == "" && e.Code != event.CodeCanceled {
				t.Fatalf("got %#v, want code %s and a hint", err, tt.code)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q lacks %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "sk-secret") {
				t.Errorf("a key in %q", err)
			}
		})
	}
	// The reader's own error survives the parser.
	r, err := price.Fetch(t.Context(), srv.Client(), srv.URL+"/cut")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := price.ParseOpenRouter(r); event.AsError(err).Code != event.CodeUpstream {
		t.Errorf("got %v", err)
	}
}

func TestSourceName(t *testing.T) {
	for from, want := range map[string]string{
		"https://openrouter.ai/api/v1/models": "https://openrouter.ai/api/v1/models",
		"https://u:pw@h:1/p?key=1#f":          "https://h:1/p",
		"/tmp/models.json":                    "/tmp/models.json",
		"models?.json":                        "models?.json",
		"https://u:pw@[::1?key=1":             "https://…",
	} {
		if got := price.SourceName(from); got != want {
			t.Errorf("%s: got %s, want %s", from, got, want)
		}
	}
}
