// Command release writes hedgerow's modules, as they are in the working tree, into
// a folder that GOPROXY can name. "make tidy" uses it while the modules' versions
// have no tags yet, and tests use it to be a user of what a tag would give out.
//
//	go run ./server/internal/release FOLDER [VERSION]
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

const root = "github.com/hedgerow/hedgerow"

// DefaultVersion is what the modules' go.mod files ask of each other.
const DefaultVersion = "v0.1.0"

// assets are the pages' scripts, which git does not keep: they are made for a
// release, so that people need no npm.
const assets = "internal/web/dist"

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "usage: release FOLDER [VERSION]")
		os.Exit(2)
	}
	version := DefaultVersion
	if len(os.Args) == 3 {
		version = os.Args[2]
	}
	if err := write(".", os.Args[1], version, time.Now()); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// write writes each module of the workspace in top.
func write(top, folder, version string, now time.Time) error {
	work, err := os.ReadFile(filepath.Join(top, "go.work"))
	if err != nil {
		return err
	}
	w, err := modfile.ParseWork("go.work", work, nil)
	if err != nil {
		return err
	}
	for _, use := range w.Use {
		if err := writeModule(filepath.Join(top, use.Path), folder, version, now); err != nil {
			return fmt.Errorf("module in %s: %w", use.Path, err)
		}
	}
	return nil
}

func writeModule(dir, folder, version string, now time.Time) error {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	m := module.Version{Path: modfile.ModulePath(mod), Version: version}
	escaped, err := module.EscapePath(m.Path)
	if err != nil {
		return err
	}
	if mod, err = requireEachOther(mod, version); err != nil {
		return err
	}
	files, err := moduleFiles(dir, mod)
	if err != nil {
		return err
	}
	to := filepath.Join(folder, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	info, err := json.Marshal(struct {
		Version string
		Time    time.Time
	}{version, now.UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"list": []byte(version + "\n"), version + ".mod": mod, version + ".info": info} {
		if err := os.WriteFile(filepath.Join(to, name), content, 0o644); err != nil {
			return err
		}
	}
	out, err := os.Create(filepath.Join(to, version+".zip"))
	if err != nil {
		return err
	}
	return errors.Join(zip.Create(out, m, files), out.Close())
}

// requireEachOther gives the modules of this repository that a go.mod file requires
// the version that is written.
func requireEachOther(mod []byte, version string) ([]byte, error) {
	f, err := modfile.Parse("go.mod", mod, nil)
	if err != nil {
		return nil, err
	}
	for _, r := range f.Require {
		if r.Mod.Path == root || strings.HasPrefix(r.Mod.Path, root+"/") {
			if err := f.AddRequire(r.Mod.Path, version); err != nil {
				return nil, err
			}
		}
	}
	return f.Format()
}

// moduleFiles are a module's files: those that git knows or would know, without
// those of modules below, with mod as its go.mod, and the pages' scripts.
func moduleFiles(dir string, mod []byte) ([]zip.File, error) {
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = dir
	list, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	names := strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00")
	err = fs.WalkDir(os.DirFS(dir), assets, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != ".gitkeep" {
			names = append(names, name)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var nested []string
	for _, name := range names {
		if below, ok := strings.CutSuffix(name, "/go.mod"); ok {
			nested = append(nested, below+"/")
		}
	}
	var files []zip.File
next:
	for _, name := range names {
		for _, below := range nested {
			if strings.HasPrefix(name, below) {
				continue next
			}
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if name == "go.mod" {
			files = append(files, file{name, path, mod})
			continue
		}
		if st, err := os.Lstat(path); err != nil || !st.Mode().IsRegular() {
			continue // deleted, or a link
		}
		files = append(files, file{name, path, nil})
	}
	return files, nil
}

// file is a file of a module; it is a [zip.File].
type file struct {
	name, path string
	content    []byte // in place of the file's own; nil is its own
}

func (f file) Path() string { return f.name }

func (f file) Lstat() (os.FileInfo, error) {
	st, err := os.Lstat(f.path)
	if err != nil || f.content == nil {
		return st, err
	}
	return sized{st, int64(len(f.content))}, nil
}

func (f file) Open() (io.ReadCloser, error) {
	if f.content != nil {
		return io.NopCloser(bytes.NewReader(f.content)), nil
	}
	return os.Open(f.path)
}

// sized is a file's description with another size.
type sized struct {
	os.FileInfo
	size int64
}

func (s sized) Size() int64 { return s.size }
