// Command packaging makes what a release consists of:
//
//	go run ./packaging release [-out dist] [-version v] [-all] [platform …]
//	go run ./packaging image   [-out dist/image] [-version v] [architecture[=binary] …]
//	go run ./packaging rootfs  [-version v] architecture[=binary] > rootfs.tar
//	go run ./packaging lock
//
// A binary that is not given is built. It runs in the repository's top folder; "make release" and "make image" call it.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/packaging/internal/binary"
	"github.com/hedgerow/hedgerow/packaging/internal/image"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

// options are the flags of all subcommands.
type options struct {
	out, version, commit string
	all                  bool
	args                 []string
}

func run(ctx context.Context, args []string) error {
	commands := map[string]func(context.Context, options) error{"release": release, "image": writeImage, "rootfs": rootfs, "lock": lock}
	if len(args) == 0 || commands[args[0]] == nil {
		return errors.New("usage: packaging release | image | rootfs | lock")
	}
	var o options
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.StringVar(&o.out, "out", "", "the folder to write to (default: dist, dist/image)")
	f.StringVar(&o.version, "version", "", "the version (default: what git describes the commit as)")
	f.StringVar(&o.commit, "commit", "", "the commit, for a build without git's folder (default: ask git)")
	f.BoolVar(&o.all, "all", false, "fail where a platform has no compiler here, in place of leaving it out")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	o.args = f.Args()
	return commands[args[0]](ctx, o)
}

// release writes archives, lists of components, checksums and provenance.
func release(ctx context.Context, o options) error {
	started := time.Now()
	s, err := binary.ReadSource(ctx, binary.Source{Top: ".", Version: o.version, Commit: o.commit})
	if err != nil {
		return err
	}
	targets := binary.Targets()
	if len(o.args) > 0 {
		targets = nil
		for _, name := range o.args {
			t, err := binary.ParseTarget(name)
			if err != nil {
				return err
			}
			targets = append(targets, t)
		}
	}
	can, missing := binary.Possible(targets)
	for _, err := range missing {
		fmt.Fprintln(os.Stderr, "left out:", err)
	}
	if o.all && len(missing) > 0 || len(can) == 0 {
		return errors.New("not every platform can be built here")
	}
	dir := cmp.Or(o.out, "dist")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var archives, files []string
	for _, t := range can {
		began := time.Now()
		built := filepath.Join(dir, "bin", t.OS+"-"+t.Arch)
		if err := binary.Build(ctx, s, t, built); err != nil {
			return err
		}
		archive, err := binary.Archive(s, t, built, dir)
		if err != nil {
			return err
		}
		sbom := archive + ".cdx.json"
		if err := binary.WriteSBOM(s, t, built, filepath.Join(dir, sbom)); err != nil {
			return err
		}
		archives, files = append(archives, archive), append(files, archive, sbom)
		st, err := os.Stat(filepath.Join(dir, archive))
		if err != nil {
			return err
		}
		fmt.Printf("%-50s %5.1f MB  %s\n", archive, float64(st.Size())/1e6, time.Since(began).Round(time.Second))
	}
	if err := binary.WriteProvenance(s, dir, archives, started, time.Now()); err != nil {
		return err
	}
	return binary.WriteSums(dir, files)
}

// built are the binaries for the image; those that are not given are built.
func built(ctx context.Context, s binary.Source, args []string) (map[string]string, error) {
	if len(args) == 0 {
		args = []string{runtime.GOARCH}
	}
	files := make(map[string]string)
	for _, arg := range args {
		arch, file, given := strings.Cut(arg, "=")
		t, err := binary.ParseTarget("linux/" + arch)
		if err != nil {
			return nil, err
		}
		if !given {
			file = filepath.Join("dist", "bin", "linux-"+arch)
			if err := binary.Build(ctx, s, t, file); err != nil {
				return nil, err
			}
		}
		files[arch] = file
	}
	return files, nil
}

// imageOptions build what is missing.
func imageOptions(ctx context.Context, o options) (image.Options, error) {
	s, err := binary.ReadSource(ctx, binary.Source{Top: ".", Version: o.version, Commit: o.commit})
	if err != nil {
		return image.Options{}, err
	}
	files, err := built(ctx, s, o.args)
	if err != nil {
		return image.Options{}, err
	}
	cache, err := image.DefaultCache()
	return image.Options{Version: s.Version, Commit: s.Commit, Date: s.Date, Binaries: files, Cache: cache}, err
}

func writeImage(ctx context.Context, o options) error {
	opts, err := imageOptions(ctx, o)
	if err != nil {
		return err
	}
	dir := cmp.Or(o.out, filepath.Join("dist", "image"))
	digest, err := image.Write(ctx, opts, dir)
	if err != nil {
		return err
	}
	fmt.Println(dir, digest)
	return nil
}

func rootfs(ctx context.Context, o options) error {
	if len(o.args) != 1 {
		return errors.New("rootfs needs an architecture")
	}
	opts, err := imageOptions(ctx, o)
	if err != nil {
		return err
	}
	for arch := range opts.Binaries {
		return image.Rootfs(ctx, opts, arch, os.Stdout)
	}
	return nil
}

func lock(ctx context.Context, _ options) error {
	cache, err := image.DefaultCache()
	if err != nil {
		return err
	}
	text, err := image.Lock(ctx, cache)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join("packaging", "internal", "image", "debian.lock"), []byte(text), 0o644)
}
