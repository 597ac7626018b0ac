package binary

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Target is a platform. DuckDB is C++, so each needs a C compiler of its own.
type Target struct {
	OS, Arch string
	// compilers are C compilers that make code for it, the first that is there counts.
	compilers []string
	debian    string // the package with the first of them, for another platform
}

// Targets are the platforms of a release. macOS needs Apple's linker and SDK, and
// DuckDB's libraries for Windows a MinGW for the UCRT, which Debian 12 does not have:
// the release workflow builds these on their own systems.
func Targets() []Target {
	return []Target{
		{"linux", "amd64", []string{"x86_64-linux-gnu-gcc"}, "g++-x86-64-linux-gnu"},
		{"linux", "arm64", []string{"aarch64-linux-gnu-gcc"}, "g++-aarch64-linux-gnu"},
		{"windows", "amd64", nil, ""},
		{"darwin", "amd64", nil, ""},
		{"darwin", "arm64", nil, ""},
	}
}

// ParseTarget finds a platform by its name: linux/arm64.
func ParseTarget(name string) (Target, error) {
	var names []string
	for _, t := range Targets() {
		if t.String() == name {
			return t, nil
		}
		names = append(names, t.String())
	}
	return Target{}, fmt.Errorf("there is no platform %q: choose of %s", name, strings.Join(names, ", "))
}

func (t Target) String() string { return t.OS + "/" + t.Arch }

// Native reports whether this machine is of the platform.
func (t Target) Native() bool { return t.OS == runtime.GOOS && t.Arch == runtime.GOARCH }

// program is the binary's file name.
func (t Target) program() string {
	if t.OS == "windows" {
		return "hedgerow.exe"
	}
	return "hedgerow"
}

// ErrNoCompiler is the error of a platform for which this machine has no C compiler.
var ErrNoCompiler = errors.New("no C compiler")

// Compiler is the C compiler to use, "" for the system's own.
func (t Target) Compiler() (string, error) {
	if t.Native() {
		return os.Getenv("CC"), nil
	}
	for _, cc := range t.compilers {
		if _, err := exec.LookPath(cc); err == nil {
			return cc, nil
		}
	}
	if t.debian == "" {
		return "", fmt.Errorf("%w for %s: build it on that system", ErrNoCompiler, t)
	}
	return "", fmt.Errorf("%w for %s: on Debian, apt-get install %s", ErrNoCompiler, t, t.debian)
}

// Source is what is built.
type Source struct {
	Top     string // the folder with go.work
	Version string
	Commit  string
	Date    time.Time // of the commit: every file of a release has this time. 1970 where it is unknown
}

// ReadSource completes a source by what git says: Version "" is what git describes the
// commit as. With a Commit git is not asked, and Version must be given.
func ReadSource(ctx context.Context, s Source) (Source, error) {
	s.Date = time.Unix(0, 0).UTC()
	if s.Commit != "" {
		if s.Version == "" {
			return s, errors.New("a commit without a version")
		}
		return s, nil
	}
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = s.Top
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("git %s: %w", args[0], err)
		}
		return strings.TrimSpace(string(out)), nil
	}
	var err error
	if s.Commit, err = git("rev-parse", "HEAD"); err != nil {
		return s, err
	}
	date, err := git("log", "-1", "--format=%cI")
	if err != nil {
		return s, err
	}
	if s.Version == "" {
		if s.Version, err = git("describe", "--tags", "--always", "--dirty"); err != nil {
			return s, err
		}
	}
	at, err := time.Parse(time.RFC3339, date)
	if err != nil {
		return s, fmt.Errorf("the commit's date: %w", err)
	}
	s.Date = at.UTC()
	return s, nil
}

// Build compiles hedgerow for a platform into the file out: stripped, without paths
// of this machine, and the same bytes for the same source, Go and C compiler.
func Build(ctx context.Context, s Source, t Target, out string) error {
	cc, err := t.Compiler()
	if err != nil {
		return err
	}
	static, err := os.MkdirTemp("", "hedgerow-static-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(static)
	external, err := linkerFlags(ctx, t, cc, static)
	if err != nil {
		return err
	}
	flags := []string{"-s", "-w", "-buildid=", "-X main.version=" + s.Version, "-X main.commit=" + s.Commit}
	if s.Date.Unix() != 0 {
		flags = append(flags, "-X main.date="+s.Date.Format(time.RFC3339))
	}
	if external != "" {
		flags = append(flags, "-extldflags '"+external+"'")
	}
	out, err = filepath.Abs(out)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", strings.Join(flags, " "), "-o", out, "./server/cmd/hedgerow")
	cmd.Dir = s.Top
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOOS="+t.OS, "GOARCH="+t.Arch)
	if cc != "" {
		cmd.Env = append(cmd.Env, "CC="+cc, "CXX="+strings.Replace(cc, "-gcc", "-g++", 1))
	}
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build for %s: %w\n%s", t, err, text)
	}
	return nil
}

// linkerFlags link the C++ library into the binary, so that it needs nothing but the
// system's C library. static is an empty folder for what the linker is to find first:
// of a library in several forms it takes a shared one, unless only the other is there.
func linkerFlags(ctx context.Context, t Target, cc, static string) (string, error) {
	switch t.OS {
	case "windows":
		return "-static", nil
	case "darwin":
		return "", nil // the C++ library is a part of the system
	}
	if cc == "" {
		cc = "gcc"
	}
	out, err := exec.CommandContext(ctx, cc, "-print-file-name=libstdc++.a").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for the C++ library: %w", cc, err)
	}
	library := strings.TrimSpace(string(out))
	if !filepath.IsAbs(library) {
		return "", fmt.Errorf("%s has no libstdc++.a: install its C++ compiler", cc)
	}
	if err := os.Symlink(library, filepath.Join(static, "libstdc++.a")); err != nil {
		return "", err
	}
	// The folder's name is in no part of the binary.
	return "-static-libgcc -L" + static, nil
}

// Possible are the platforms that this machine can build, and why not the others.
func Possible(targets []Target) (can []Target, missing []error) {
	for _, t := range targets {
		if _, err := t.Compiler(); err != nil {
			missing = append(missing, err)
			continue
		}
		can = append(can, t)
	}
	return slices.Clip(can), missing
}
