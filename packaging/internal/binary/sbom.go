package binary

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

// scripts is the lockfile of the packages whose code is in the pages' scripts.
const scripts = "server/internal/web/ui/package-lock.json"

// WriteSBOM writes what is in a binary as a CycloneDX document: the modules that its
// build information names, Go's standard library, and the npm packages of the pages.
func WriteSBOM(s Source, t Target, binary, file string) (err error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read the build information: %w", err)
	}
	npm, err := npmComponents(filepath.Join(s.Top, filepath.FromSlash(scripts)))
	if err != nil {
		return err
	}
	sum, err := Sum(binary)
	if err != nil {
		return err
	}
	list := slices.Concat(moduleComponents(info), npm)
	slices.SortFunc(list, func(a, b cyclonedx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })

	purl := "pkg:golang/" + info.Main.Path + "@" + s.Version + "?goarch=" + t.Arch + "&goos=" + t.OS
	bom := cyclonedx.NewBOM()
	bom.SerialNumber = "urn:uuid:" + uuidOf(sum)
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: s.Date.Format(time.RFC3339),
		Component: &cyclonedx.Component{
			BOMRef: purl, Type: cyclonedx.ComponentTypeApplication, Name: "hedgerow", Version: s.Version, PackageURL: purl,
			Hashes:   &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: sum}},
			Licenses: &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "MIT"}}},
		},
	}
	bom.Components = &list
	var refs []string
	for _, c := range list {
		refs = append(refs, c.BOMRef)
	}
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: purl, Dependencies: &refs}}

	out, err := os.Create(file)
	if err != nil {
		return err
	}
	enc := cyclonedx.NewBOMEncoder(out, cyclonedx.BOMFileFormatJSON)
	enc.SetPretty(true)
	if err := enc.Encode(bom); err != nil {
		_ = out.Close()
		return fmt.Errorf("write %s: %w", file, err)
	}
	return out.Close()
}

// moduleComponents are the binary's modules and Go's standard library.
func moduleComponents(info *debug.BuildInfo) []cyclonedx.Component {
	list := []cyclonedx.Component{library("pkg:golang/std@"+strings.TrimPrefix(info.GoVersion, "go"), "std", info.GoVersion)}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		if strings.HasPrefix(m.Path, ".") || strings.HasPrefix(m.Path, "/") || m.Version == "" || m.Version == "(devel)" {
			continue // a module of this repository: the document is about it
		}
		c := library("pkg:golang/"+m.Path+"@"+m.Version, m.Path, m.Version)
		if m.Sum != "" { // of the module's files together, so it is none of a component's hashes
			c.Properties = &[]cyclonedx.Property{{Name: "go:sum", Value: m.Sum}}
		}
		list = append(list, c)
	}
	return list
}

// npmComponents are the packages of a lockfile that are not for development alone.
func npmComponents(lockfile string) ([]cyclonedx.Component, error) {
	b, err := os.ReadFile(lockfile)
	if err != nil {
		return nil, err
	}
	var lock struct {
		Packages map[string]struct {
			Version string
			Dev     bool
		}
	}
	if err := json.Unmarshal(b, &lock); err != nil {
		return nil, fmt.Errorf("read %s: %w", lockfile, err)
	}
	var list []cyclonedx.Component
	for path, p := range lock.Packages {
		_, name, ok := strings.Cut(path, "node_modules/")
		if !ok || p.Dev {
			continue
		}
		list = append(list, library("pkg:npm/"+strings.Replace(name, "@", "%40", 1)+"@"+p.Version, name, p.Version))
	}
	return list, nil
}

func library(purl, name, version string) cyclonedx.Component {
	return cyclonedx.Component{BOMRef: purl, Type: cyclonedx.ComponentTypeLibrary, Name: name, Version: version, PackageURL: purl}
}

// uuidOf is an id (RFC 9562, version 8) that goes with a checksum, so that the same
// binary has the same document.
func uuidOf(sum string) string {
	h := sha256.Sum256([]byte(sum))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
