package main

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const top = "../../.."

// goTool runs the go command outside of the workspace, with hedgerow's modules from
// a folder.
func goTool(t *testing.T, dir, proxy, cache string, args ...string) string {
	t.Helper()
	env := func(name string) string {
		out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	// What this machine has already comes from there; the rest from where it always comes.
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod -modcacherw", "GONOSUMDB="+root+","+root+"/*", "GOMODCACHE="+cache,
		"GOPROXY=file://"+proxy+",file://"+filepath.Join(env("GOMODCACHE"), "cache", "download")+","+env("GOPROXY"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestSDKUser is a program that imports the SDK: what it downloads is small, and
// nothing of it is the server's.
func TestSDKUser(t *testing.T) {
	proxy, cache, program := t.TempDir(), t.TempDir(), t.TempDir()
	if err := write(top, proxy, DefaultVersion, time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.mod": "module example.com/program\n\ngo 1.26\n",
		"main.go": `package main

import "github.com/hedgerow/hedgerow"

func main() {
	client, err := hedgerow.New(hedgerow.Config{})
	if err == nil {
		client.Capture(nil, "started", nil)
	}
}
`,
	} {
		if err := os.WriteFile(filepath.Join(program, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	goTool(t, program, proxy, cache, "mod", "tidy")
	var size int64
	err := filepath.WalkDir(filepath.Join(cache, "cache", "download"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			st, err := d.Info()
			if err != nil {
				return err
			}
			size += st.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	modules := strings.Fields(goTool(t, program, proxy, cache, "list", "-test", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "all"))
	slices.Sort(modules)
	modules = slices.DeleteFunc(slices.Compact(modules), func(m string) bool { return m == "example.com/program" })
	t.Logf("go mod tidy downloads %.1f MB; %d modules: %s", float64(size)/1e6, len(modules), strings.Join(modules, " "))
	if size > 60e6 {
		t.Errorf("go mod tidy downloads %.1f MB", float64(size)/1e6)
	}
	if len(modules) > 15 || !slices.Contains(modules, root) {
		t.Errorf("%d modules: %s", len(modules), strings.Join(modules, " "))
	}
	for _, m := range modules {
		for _, no := range []string{"nats", "duckdb", "templ", "grpc", root + "/server"} {
			if strings.Contains(m, no) {
				t.Errorf("a program that imports the SDK needs %s", m)
			}
		}
	}
}

// TestServerModule installs the server as people do, from its module's zip file, and
// starts it: the pages' scripts are there.
func TestServerModule(t *testing.T) {
	if _, err := os.Stat(filepath.Join(top, "server", assets, "app.js")); err != nil {
		t.Skip("the pages' scripts are not built: make assets")
	}
	proxy, bin := t.TempDir(), t.TempDir()
	// A version that no other run has left in the machine's module cache.
	version := "v0.1.1-0." + time.Now().UTC().Format("20060102150405") + "-000000000000"
	if err := write(top, proxy, version, time.Now()); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	cache := strings.TrimSpace(string(out))
	t.Cleanup(func() { forget(t, cache, version) })
	t.Setenv("GOBIN", bin)
	goTool(t, bin, proxy, cache, "install", root+"/server/cmd/hedgerow@"+version)

	ctx, stop := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "hedgerow"), "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data"))
	cmd.Env = append(os.Environ(), "HEDGEROW_PRICES_REFRESH=off")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var printed prints
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stop(); _ = cmd.Wait() }()
	base := ""
	for end := time.Now().Add(time.Minute); base == ""; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not start:\n%s", printed.text())
		}
		if _, after, ok := strings.Cut(printed.text(), "listens on "); ok {
			base, _, _ = strings.Cut(after, "\n")
		}
	}
	for path, want := range map[string]string{"/healthz": "", "/sign-in": "app.js", "/assets/app.js": "htmx"} {
		status, body := get(t, strings.TrimSpace(base)+path)
		if status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, and not %q", path, status, want)
		}
	}
}

// forget takes a version out of the machine's module cache.
func forget(t *testing.T, cache, version string) {
	for _, pattern := range []string{
		filepath.Join(cache, "github.com", "hedgerow", "*@"+version),
		filepath.Join(cache, "github.com", "hedgerow", "hedgerow", "*@"+version),
		filepath.Join(cache, "cache", "download", "github.com", "hedgerow", "hedgerow", "@v", version+".*"),
		filepath.Join(cache, "cache", "download", "github.com", "hedgerow", "hedgerow", "*", "@v", version+".*"),
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Error(err)
		}
		for _, p := range paths {
			if err := os.RemoveAll(p); err != nil {
				t.Error(err)
			}
		}
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// prints is what a program prints.
type prints struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *prints) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *prints) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}
