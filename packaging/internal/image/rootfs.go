package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"
)

// User is the user and group that the image runs as.
const User = 65532

// Where things are in the image.
const (
	program    = "usr/bin/hedgerow"
	dataFolder = "var/lib/hedgerow"
	configDir  = "etc/hedgerow" // the working folder: hedgerow.yaml is looked for there
	authority  = "etc/ssl/certs/ca-certificates.crt"
)

// Architectures are those that there is an image for.
func Architectures() []string { return []string{"amd64", "arm64"} }

// wanted are the packages of the base layer: the C library, certificates, time zones,
// and what tells scanners which system this is.
func wanted() []string { return []string{"base-files", "ca-certificates", "libc6", "tzdata"} }

// keep reports whether a file of a package belongs into the image.
func keep(pkg, name string) bool {
	if name == "usr/share/doc/"+pkg+"/copyright" {
		return true
	}
	switch pkg {
	case "base-files":
		return name == "usr/lib/os-release" || name == "etc/os-release"
	case "libc6":
		dir := strings.Split(name, "/")[0]
		return dir == "lib" || dir == "lib64"
	case "tzdata":
		return strings.HasPrefix(name, "usr/share/zoneinfo/") && !strings.HasPrefix(name, "usr/share/zoneinfo/right/")
	}
	return false
}

// entry is a file, a link or a folder of a layer.
type entry struct {
	header  tar.Header
	content []byte
}

func file(name, content string, mode int64) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, []byte(content)}
}

func folder(name string, mode int64, user int) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, Uid: user, Gid: user}, nil}
}

// base are the entries of the base layer, made of package files.
func base(ctx context.Context, debs []string) ([]entry, error) {
	entries := []entry{
		file("etc/passwd", fmt.Sprintf("root:x:0:0:root:/root:/sbin/nologin\nhedgerow:x:%d:%[1]d:hedgerow:/%s:/sbin/nologin\n", User, dataFolder), 0o644),
		file("etc/group", fmt.Sprintf("root:x:0:\nhedgerow:x:%d:\n", User), 0o644),
		file("etc/nsswitch.conf", "hosts: files dns\n", 0o644),
		folder("tmp", 0o1777, 0), folder(configDir, 0o755, 0), folder(dataFolder, 0o700, User),
	}
	var certificates []entry
	for _, deb := range debs {
		pkg, err := output(ctx, "dpkg-deb", "--field", deb, "Package")
		if err != nil {
			return nil, err
		}
		name := strings.TrimSpace(string(pkg))
		control, err := output(ctx, "dpkg-deb", "--field", deb)
		if err != nil {
			return nil, err
		}
		// Scanners of images read which packages there are from here.
		entries = append(entries, file("var/lib/dpkg/status.d/"+name, string(control), 0o644))
		data, err := output(ctx, "dpkg-deb", "--fsys-tarfile", deb)
		if err != nil {
			return nil, err
		}
		for r := tar.NewReader(bytes.NewReader(data)); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", deb, err)
			}
			e := entry{header: tar.Header{Typeflag: h.Typeflag, Name: strings.TrimPrefix(h.Name, "./"), Linkname: strings.TrimPrefix(h.Linkname, "./"), Mode: h.Mode}}
			if h.Typeflag == tar.TypeSymlink {
				e.header.Linkname = h.Linkname
			}
			if e.content, err = io.ReadAll(r); err != nil {
				return nil, fmt.Errorf("read %s: %w", deb, err)
			}
			switch {
			case name == "ca-certificates" && strings.HasSuffix(e.header.Name, ".crt"):
				certificates = append(certificates, e)
			case h.Typeflag != tar.TypeDir && keep(name, e.header.Name):
				entries = append(entries, e)
			}
		}
	}
	if len(certificates) < 100 {
		return nil, fmt.Errorf("only %d certificates of authorities", len(certificates))
	}
	slices.SortFunc(certificates, byName)
	var all bytes.Buffer
	for _, c := range certificates {
		all.Write(c.content)
	}
	return append(entries, file(authority, all.String(), 0o644)), nil
}

func byName(a, b entry) int { return cmp.Compare(a.header.Name, b.header.Name) }

func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// layerTar writes entries, sorted and with the folders above them, all of one time.
func layerTar(entries []entry, date time.Time) ([]byte, error) {
	have := make(map[string]bool)
	for _, e := range entries {
		have[strings.TrimSuffix(e.header.Name, "/")] = true
	}
	for _, e := range slices.Clone(entries) {
		for dir := path.Dir(strings.TrimSuffix(e.header.Name, "/")); dir != "." && !have[dir]; dir = path.Dir(dir) {
			have[dir] = true
			entries = append(entries, folder(dir, 0o755, 0))
		}
	}
	slices.SortFunc(entries, byName)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.header.Size, e.header.ModTime = int64(len(e.content)), date
		if err := w.WriteHeader(&e.header); err != nil {
			return nil, fmt.Errorf("layer: %s: %w", e.header.Name, err)
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, fmt.Errorf("layer: %s: %w", e.header.Name, err)
		}
	}
	return b.Bytes(), w.Close()
}

// runsOn refuses a binary that needs a library that is not in the base layer.
func runsOn(binary []byte, base []entry) error {
	f, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		return fmt.Errorf("the binary is not one for Linux: %w", err)
	}
	need, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, lib := range need {
		if !slices.ContainsFunc(base, func(e entry) bool { return path.Base(e.header.Name) == lib }) {
			return fmt.Errorf("the binary needs %s, which is not in the image: build it with make release", lib)
		}
	}
	return nil
}
