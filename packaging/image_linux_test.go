package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hedgerow/hedgerow/internal/simulate/provider"
	"github.com/hedgerow/hedgerow/packaging/internal/binary"
	"github.com/hedgerow/hedgerow/packaging/internal/image"
)

// whole skips a test that builds the binary, or takes packages from Debian, unless
// "make packaging" runs it.
func whole(t *testing.T) {
	t.Helper()
	if os.Getenv("HEDGEROW_PACKAGING") == "" {
		t.Skip("NOT RUN: it builds hedgerow for a release, which takes minutes; make packaging runs it")
	}
}

// released is hedgerow built as for a release, for this machine.
func released(t *testing.T) (binary.Source, binary.Target, string) {
	t.Helper()
	s, err := binary.ReadSource(t.Context(), binary.Source{Top: ".."})
	if err != nil {
		t.Fatal(err)
	}
	target, err := binary.ParseTarget(runtime.GOOS + "/" + runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "hedgerow")
	if err := binary.Build(t.Context(), s, target, file); err != nil {
		t.Fatal(err)
	}
	return s, target, file
}

// TestImage builds the image twice, unpacks it, and runs what is in it as a container
// engine would: in a root folder of its own, as the image's user, with its environment.
func TestImage(t *testing.T) {
	whole(t)
	if runtime.GOOS != "linux" {
		t.Skip("NOT RUN: the image is for Linux")
	}
	s, target, file := released(t)
	cache, err := image.DefaultCache()
	if err != nil {
		t.Fatal(err)
	}
	o := image.Options{Version: s.Version, Commit: s.Commit, Date: s.Date, Binaries: map[string]string{target.Arch: file}, Cache: cache}
	var digests [2]v1.Hash
	for i := range digests {
		digests[i], err = image.Write(t.Context(), o, filepath.Join(t.TempDir(), "image"))
		if errors.Is(err, image.ErrNoPackage) {
			t.Skipf("NOT RUN: the image was not built, since Debian's packages cannot be had: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if digests[0] != digests[1] {
		t.Fatalf("two builds have the digests %s and %s", digests[0], digests[1])
	}
	layout := filepath.Join(t.TempDir(), "image")
	if _, err := image.Write(t.Context(), o, layout); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	img, err := image.Open(layout, target.Arch)
	if err != nil {
		t.Fatal(err)
	}
	root := rootFolder(t)
	size, err := image.Unpack(img, root)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("digest %s, %.1f MB unpacked", digests[0], float64(size)/1e6)
	if size > 150e6 {
		t.Errorf("the image has %.1f MB unpacked, want less than 150", float64(size)/1e6)
	}
	checkFiles(t, root)
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if user := fmt.Sprintf("%d:%[1]d", image.User); config.Config.User != user {
		t.Errorf("the image runs as %q, want %q", config.Config.User, user)
	}
	if h := config.Config.Healthcheck; h == nil || !slices.Equal(h.Test, []string{"CMD", "/usr/bin/hedgerow", "health"}) {
		t.Errorf("the health check is %+v", h)
	}
	c := &container{t: t, root: root, config: config.Config, began: began}
	c.run()
}

// rootFolder is a folder that the image's user may enter, which t.TempDir is not.
func rootFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hedgerow-image-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// checkFiles looks for certificates, time zones and a user, and for files that would
// give their user another one's rights.
func checkFiles(t *testing.T, root string) {
	t.Helper()
	for name, want := range map[string]string{
		"etc/ssl/certs/ca-certificates.crt": "-----BEGIN CERTIFICATE-----", "usr/share/zoneinfo/Europe/Berlin": "TZif",
		"etc/passwd": "hedgerow:x:65532:65532:", "usr/lib/os-release": "ID=debian", "usr/share/doc/libc6/copyright": "GNU",
		"var/lib/dpkg/status.d/libc6": "Version: ",
	} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil || !bytes.Contains(b, []byte(want)) {
			t.Errorf("%s: %v, want it to have %q", name, err, want)
		}
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
			t.Errorf("%s has the mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// container runs the programs of an unpacked image.
type container struct {
	t      *testing.T
	root   string
	config v1.Config
	began  time.Time // when the image was there
	env    []string
}

// command is a program of the image, in its root folder and as its user: by root, or
// in a user namespace.
func (c *container) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = c.config.WorkingDir
	cmd.Env = append(slices.Clone(c.config.Env), c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root, Credential: &syscall.Credential{Uid: image.User, Gid: image.User}}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: image.User, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: image.User, HostID: os.Getgid(), Size: 1}}
		cmd.SysProcAttr.Credential.NoSetGroups = true
	}
	return cmd
}

// run starts the image's command, waits until it is ready, has a call go through it,
// and stops it.
func (c *container) run() {
	t := c.t
	sim := provider.New(provider.Options{Seed: 1})
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	// The port of the image's default is published under another one by a container
	// engine; here is no engine, and 4100 may be in use.
	port := freePort(t)
	if !slices.Contains(c.config.Env, "HEDGEROW_LISTEN=0.0.0.0:4100") {
		t.Errorf("the image's environment is %v", c.config.Env)
	}
	c.config.Env = slices.DeleteFunc(c.config.Env, func(v string) bool { return strings.HasPrefix(v, "HEDGEROW_LISTEN=") })
	c.env = []string{"HEDGEROW_LISTEN=0.0.0.0:" + port, "HEDGEROW_UPSTREAM_OPENAI=" + sim.OpenAIURL(), "HEDGEROW_PRICES_REFRESH=off"}
	base := "http://127.0.0.1:" + port

	cmd := c.command(context.Background(), append(slices.Clone(c.config.Entrypoint), c.config.Cmd...)...)
	var printed prints
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	c.wait("/readyz", &printed, func() bool {
		code, body := fetch(t, "GET", base+"/readyz", nil, "")
		return code == 200 && strings.Contains(body, `"ok"`)
	})
	var key string
	c.wait("the key in the log", &printed, func() bool {
		m := regexp.MustCompile(`API key\s+(hr_\S+)`).FindStringSubmatch(printed.text())
		if m != nil {
			key = m[1]
		}
		return m != nil && strings.Contains(printed.text(), "X-Hedgerow-Key")
	})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if uid := regexp.MustCompile(`(?m)^Uid:\t(\d+)`).FindStringSubmatch(string(status)); uid == nil || uid[1] == "0" {
		t.Errorf("the process runs as %v", uid)
	}

	const call = `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"Say hello."}]}`
	header := map[string]string{"Content-Type": "application/json", "Authorization": "Bearer sk-test"}
	if code, body := fetch(t, "POST", base+"/openai/v1/chat/completions", header, call); code != http.StatusUnauthorized {
		t.Errorf("a call without a key: %d: %s", code, body)
	}
	header["X-Hedgerow-Key"] = key
	if code, body := fetch(t, "POST", base+"/openai/v1/chat/completions", header, call); code != http.StatusOK {
		t.Fatalf("a call with the key: %d: %s", code, body)
	}
	priced := regexp.MustCompile(`"total_usd":\s*"?0\.0*[1-9]`)
	c.wait("the call's price", &printed, func() bool {
		_, events := fetch(t, "GET", base+"/api/v1/events?limit=10", map[string]string{"Authorization": "Bearer " + key}, "")
		return priced.MatchString(events)
	})
	t.Logf("from the image to the first priced call: %s", time.Since(c.began).Round(10*time.Millisecond))

	check := c.command(t.Context(), c.config.Healthcheck.Test[1:]...)
	if out, err := check.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "ok" {
		t.Errorf("the health check of the image: %v: %s", err, out)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ends with %v:\n%s", err, printed.text())
		}
	case <-time.After(30 * time.Second):
		t.Errorf("it does not stop:\n%s", printed.text())
	}
	if out, err := c.command(t.Context(), c.config.Healthcheck.Test[1:]...).CombinedOutput(); err == nil {
		t.Errorf("the health check of a stopped server: %s", out)
	}
	var version struct{ Version string }
	out, err := c.command(t.Context(), "/usr/bin/hedgerow", "version", "--json").Output()
	if err := errors.Join(err, json.Unmarshal(out, &version)); err != nil || version.Version == "" || version.Version == "dev" {
		t.Errorf("version: %v: %s", err, out)
	}
}

func (c *container) wait(what string, printed *prints, done func() bool) {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("waited for %s in vain:\n%s", what, printed.text())
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// fetch returns 0 where nothing answers.
func fetch(t *testing.T, method, url string, header map[string]string, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
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

// TestReproducible builds the binary twice: the bytes are the same, and hold no path of
// this machine.
func TestReproducible(t *testing.T) {
	whole(t)
	var files [2][]byte
	for i := range files {
		_, _, file := released(t)
		var err error
		if files[i], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("two builds differ")
	}
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{top, os.TempDir() + "/hedgerow-static"} {
		if bytes.Contains(files[0], []byte(path)) {
			t.Errorf("the binary has the path %s", path)
		}
	}
	t.Logf("%.1f MB", float64(len(files[0]))/1e6)
}
