package image

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Options are what an image is made of.
type Options struct {
	Version string
	Commit  string
	Date    time.Time // of the commit
	// Binaries are the binaries for Linux by architecture, as make release builds them.
	Binaries map[string]string
	Cache    string // the folder that keeps Debian's packages
}

// Environment is the image's environment: the configuration's variables that differ
// from their defaults. A published port reaches the container from outside, never
// over loopback, so that every call needs a key.
func Environment() []string {
	return []string{
		"PATH=/usr/bin",
		"HEDGEROW_LISTEN=0.0.0.0:4100",
		"HEDGEROW_DATA=/" + dataFolder,
	}
}

// Write makes the layout of an image for all architectures in the folder dir, which
// must not exist, and returns its digest.
func Write(ctx context.Context, o Options, dir string) (v1.Hash, error) {
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return v1.Hash{}, fmt.Errorf("%s exists already, or cannot be looked at (%w)", dir, err)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range slices.Sorted(maps.Keys(o.Binaries)) {
		img, err := build(ctx, o, arch)
		if err != nil {
			return v1.Hash{}, fmt.Errorf("image for %s: %w", arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("write the layout: %w", err)
	}
	if err := p.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": o.Version})); err != nil {
		return v1.Hash{}, fmt.Errorf("write the layout: %w", err)
	}
	return index.Digest()
}

// build makes the image for one architecture.
func build(ctx context.Context, o Options, arch string) (v1.Image, error) {
	debs, err := Fetch(ctx, arch, o.Cache)
	if err != nil {
		return nil, err
	}
	entries, err := base(ctx, debs)
	if err != nil {
		return nil, err
	}
	binary, err := os.ReadFile(o.Binaries[arch])
	if err != nil {
		return nil, err
	}
	if err := runsOn(binary, entries); err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, l := range []struct {
		entries []entry
		date    time.Time
		comment string
	}{
		// The base layer is the same for every version with the same packages.
		{entries, time.Unix(0, 0).UTC(), "Debian packages of debian.lock"},
		{[]entry{file(program, string(binary), 0o755)}, o.Date, "hedgerow " + o.Version},
	} {
		content, err := layerTar(l.entries, l.date)
		if err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return nil, err
		}
		history := v1.History{Created: v1.Time{Time: l.date}, CreatedBy: "make image", Comment: l.comment}
		if img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: history, MediaType: types.OCILayer}); err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: o.Date}
	config.Config = v1.Config{
		User:         fmt.Sprintf("%d:%[1]d", User),
		Env:          Environment(),
		Entrypoint:   []string{"/" + program},
		Cmd:          []string{"serve"},
		WorkingDir:   "/" + configDir,
		ExposedPorts: map[string]struct{}{"4100/tcp": {}},
		Volumes:      map[string]struct{}{"/" + dataFolder: {}},
		StopSignal:   "SIGTERM",
		Healthcheck: &v1.HealthConfig{
			Test: []string{"CMD", "/" + program, "health"}, Interval: 15 * time.Second, Timeout: 6 * time.Second, StartPeriod: 30 * time.Second, Retries: 3,
		},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "hedgerow",
			"org.opencontainers.image.version":  o.Version,
			"org.opencontainers.image.revision": o.Commit,
			"org.opencontainers.image.created":  o.Date.Format(time.RFC3339),
			"org.opencontainers.image.source":   "https://github.com/hedgerow/hedgerow",
			"org.opencontainers.image.licenses": "MIT",
		},
	}
	return mutate.ConfigFile(img, config)
}

// Rootfs writes the files of the image for one architecture as a tar stream, for those
// who build it with Docker: one layer, without the configuration.
func Rootfs(ctx context.Context, o Options, arch string, w io.Writer) error {
	img, err := build(ctx, o, arch)
	if err != nil {
		return err
	}
	r := mutate.Extract(img)
	_, err = io.Copy(w, r)
	return errors.Join(err, r.Close())
}

// Open reads the image for an architecture from a layout.
func Open(dir, arch string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	top, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(top.Manifests) != 1 {
		return nil, fmt.Errorf("the layout has %d images", len(top.Manifests))
	}
	all, err := index.ImageIndex(top.Manifests[0].Digest)
	if err != nil {
		return nil, err
	}
	list, err := all.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, m := range list.Manifests {
		if m.Platform != nil && m.Platform.Architecture == arch {
			return all.Image(m.Digest)
		}
	}
	return nil, fmt.Errorf("the layout has no image for %s", arch)
}

// Unpack writes an image's files into the folder dir and returns their size. Users are
// set where this process may set them.
func Unpack(img v1.Image, dir string) (size int64, err error) {
	r := mutate.Extract(img)
	defer func() { err = errors.Join(err, r.Close()) }()
	return unpack(r, dir)
}

// inside is a path below dir; names that lead out of it are refused.
func inside(dir, name string) (string, error) {
	if name = strings.TrimSuffix(name, "/"); !filepath.IsLocal(cmp.Or(name, ".")) {
		return "", fmt.Errorf("the name %q leads out of the image", name)
	}
	return filepath.Join(dir, name), nil
}
