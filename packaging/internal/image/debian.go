package image

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hedgerow/hedgerow/packaging/internal/binary"
)

// lock names the Debian packages of the base layer: name, version, architecture and
// SHA-256 of the file. "make image-lock" writes it.
//
//go:embed debian.lock
var lock string

// Package is a line of the lock.
type Package struct{ Name, Version, Arch, Sum string }

func (p Package) file() string {
	return p.Name + "_" + strings.ReplaceAll(p.Version, ":", "%3a") + "_" + p.Arch + ".deb"
}

// Locked are the packages for an architecture.
func Locked(arch string) ([]Package, error) {
	var list []Package
	for line := range strings.Lines(lock) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) != 5 {
			return nil, fmt.Errorf("debian.lock: %q has not five parts", strings.TrimSpace(line))
		}
		if f[0] == arch {
			list = append(list, Package{f[1], f[2], f[3], f[4]})
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("debian.lock has no packages for %s", arch)
	}
	return list, nil
}

// ErrNoPackage is the error of a package that cannot be had in its locked version:
// there is no network, or Debian has replaced the version by a newer one.
var ErrNoPackage = errors.New("the locked Debian package cannot be had")

// apt runs apt-get for an architecture with lists of its own in the folder dir, so
// that the machine's own lists and packages stay as they are. It uses the sources that
// the machine has.
type apt struct {
	dir, arch string
	listed    bool
}

func (a *apt) run(ctx context.Context, args ...string) (string, error) {
	for _, d := range []string{"lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return "", err
		}
	}
	status := filepath.Join(a.dir, "status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return "", err
	}
	options := []string{
		"APT::Architecture=" + a.arch, "APT::Architectures=" + a.arch, "APT::Sandbox::User=root", "APT::Update::Post-Invoke=", "APT::Update::Post-Invoke-Success=",
		"Dir::State=" + a.dir, "Dir::State::lists=" + filepath.Join(a.dir, "lists"), "Dir::State::status=" + status, "Dir::Cache=" + filepath.Join(a.dir, "cache"),
	}
	var all []string
	for _, o := range options {
		all = append(all, "-o", o)
	}
	name := "apt-get"
	if args[0] == "show" {
		name = "apt-cache"
	}
	cmd := exec.CommandContext(ctx, name, append(all, args...)...)
	cmd.Dir = filepath.Join(a.dir, "debs")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, args[0], err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

func (a *apt) update(ctx context.Context) error {
	if a.listed {
		return nil
	}
	_, err := a.run(ctx, "update", "-qq")
	a.listed = err == nil
	return err
}

// Fetch returns the files of the locked packages, which it keeps in the folder cache.
// It needs apt-get and dpkg-deb.
func Fetch(ctx context.Context, arch, cache string) ([]string, error) {
	list, err := Locked(arch)
	if err != nil {
		return nil, err
	}
	cache, err = filepath.Abs(cache)
	if err != nil {
		return nil, err
	}
	a := &apt{dir: filepath.Join(cache, arch), arch: arch}
	var files []string
	for _, p := range list {
		file := filepath.Join(a.dir, "debs", p.file())
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			if err := a.update(ctx); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrNoPackage, err)
			}
			if _, err := a.run(ctx, "download", "-qq", p.Name+"="+p.Version); err != nil {
				return nil, fmt.Errorf("%w: %s %s (make image-lock takes today's versions): %w", ErrNoPackage, p.Name, p.Version, err)
			}
		}
		sum, err := binary.Sum(file)
		if err != nil {
			return nil, err
		}
		if sum != p.Sum {
			return nil, fmt.Errorf("%s has the checksum %s, debian.lock says %s", file, sum, p.Sum)
		}
		files = append(files, file)
	}
	return files, nil
}

// Lock asks Debian for today's versions and returns the new text of debian.lock.
func Lock(ctx context.Context, cache string) (string, error) {
	cache, err := filepath.Abs(cache)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# The Debian packages of the image's base layer, written by make image-lock:\n# the image's architecture, the package's name, version, architecture and SHA-256.\n")
	for _, arch := range Architectures() {
		a := &apt{dir: filepath.Join(cache, arch), arch: arch}
		if err := a.update(ctx); err != nil {
			return "", err
		}
		for _, name := range wanted() {
			out, err := a.run(ctx, "show", "--no-all-versions", name)
			if err != nil {
				return "", err
			}
			field := func(key string) string {
				for line := range strings.Lines(out) {
					if v, ok := strings.CutPrefix(line, key+": "); ok {
						return strings.TrimSpace(v)
					}
				}
				return ""
			}
			fmt.Fprintln(&b, arch, name, field("Version"), field("Architecture"), field("SHA256"))
		}
	}
	return b.String(), nil
}

// DefaultCache is the folder that keeps Debian's packages from one run to the next.
func DefaultCache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "hedgerow-packaging"), nil
}
