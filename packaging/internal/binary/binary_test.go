package binary

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

// repository is a folder with the files that a release takes from the repository.
func repositoryFolder(t *testing.T) Source {
	t.Helper()
	top := t.TempDir()
	for name, text := range map[string]string{
		"LICENSE": "MIT", "README.md": "read me", "CHANGELOG.md": "changes", unit: "[Unit]",
		scripts: `{"packages":{"":{"version":"1"},"node_modules/htmx.org":{"version":"2.0.1"},"node_modules/@scope/icons":{"version":"1.0.0"},"node_modules/esbuild":{"version":"0.9.0","dev":true}}}`,
	} {
		file := filepath.Join(top, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return Source{Top: top, Version: "v0.1.0", Commit: strings.Repeat("ab", 20), Date: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)}
}

func targetOf(t *testing.T, name string) Target {
	t.Helper()
	target, err := ParseTarget(name)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// TestArchive packs twice: the bytes are the same, whatever the files' times and modes.
func TestArchive(t *testing.T) {
	s := repositoryFolder(t)
	program := filepath.Join(t.TempDir(), "built")
	if err := os.WriteFile(program, []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"linux/arm64":   {"hedgerow", "LICENSE", "README.md", "CHANGELOG.md", "hedgerow.service"},
		"windows/amd64": {"hedgerow.exe", "LICENSE", "README.md", "CHANGELOG.md"},
	} {
		target := targetOf(t, name)
		var packed [2][]byte
		for i := range packed {
			dir := t.TempDir()
			file, err := Archive(s, target, program, dir)
			if err != nil {
				t.Fatal(err)
			}
			if packed[i], err = os.ReadFile(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(program, time.Now(), time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(packed[0], packed[1]) {
			t.Errorf("%s: two archives of the same files differ", name)
		}
		var got []string
		for _, member := range members(t, target, packed[0]) {
			base, ok := strings.CutPrefix(member, "hedgerow-v0.1.0-"+target.OS+"-"+target.Arch+"/")
			if !ok {
				t.Errorf("%s: %s is outside of the archive's folder", name, member)
			}
			got = append(got, base)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", name, got, want)
		}
	}
}

// members are an archive's names; the first must be a program.
func members(t *testing.T, target Target, packed []byte) (names []string) {
	t.Helper()
	if target.OS == "windows" {
		z, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range z.File {
			names = append(names, f.Name)
		}
		return names
	}
	gz, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(names) == 0 && h.Mode != 0o755 {
			t.Errorf("%s has the mode %o", h.Name, h.Mode)
		}
		names = append(names, h.Name)
	}
}

func TestSums(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteSums(dir, []string{"a"}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, SumsFile))
	// FIPS 180-2, B.1: the SHA-256 of "abc".
	if want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n"; err != nil || string(b) != want {
		t.Errorf("got %q, %v", b, err)
	}
	if err := CheckSums(dir); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("abd"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckSums(dir); err == nil {
		t.Error("a changed file goes unnoticed")
	}
}

// TestModuleComponents lists modules, with their sums, and none of this repository's.
func TestModuleComponents(t *testing.T) {
	got := moduleComponents(&debug.BuildInfo{GoVersion: "go1.26.8", Deps: []*debug.Module{
		{Path: "github.com/google/uuid", Version: "v1.6.0", Sum: "h1:x="}, {Path: "github.com/hedgerow/hedgerow", Version: "(devel)"},
		{Path: "example.com/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/new", Version: "v1.1.0"}},
	}})
	var names []string
	for _, c := range got {
		names = append(names, c.PackageURL)
	}
	if want := []string{"pkg:golang/std@1.26.8", "pkg:golang/github.com/google/uuid@v1.6.0", "pkg:golang/example.com/new@v1.1.0"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	if p := got[1].Properties; p == nil || (*p)[0].Value != "h1:x=" {
		t.Errorf("no sum: %+v", got[1])
	}
}

// TestSBOM lists what is in this test's own program, which says nothing of its modules.
func TestSBOM(t *testing.T) {
	s := repositoryFolder(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var files [2][]byte
	for i := range files {
		file := filepath.Join(t.TempDir(), "sbom.json")
		if err := WriteSBOM(s, targetOf(t, "linux/amd64"), self, file); err != nil {
			t.Fatal(err)
		}
		if files[i], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("two lists of one program differ")
	}
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(files[0]), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range *bom.Components {
		got = append(got, c.PackageURL)
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{"pkg:golang/std@1.", "pkg:npm/htmx.org@2.0.1", "pkg:npm/%40scope/icons@1.0.0"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s in\n%s", want, all)
		}
	}
	if strings.Contains(all, "esbuild") || strings.Contains(all, "hedgerow") {
		t.Errorf("what is not in the program is listed:\n%s", all)
	}
	if c := bom.Metadata.Component; c.Version != s.Version || len(*c.Hashes) != 1 || bom.SerialNumber == "" {
		t.Errorf("it is about %+v", c)
	}
}

func TestProvenance(t *testing.T) {
	s := repositoryFolder(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteProvenance(s, dir, []string{"a"}, s.Date, s.Date.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, ProvenanceFile))
	if err != nil {
		t.Fatal(err)
	}
	var st Statement
	if err := json.Unmarshal(b, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != "https://in-toto.io/Statement/v1" || st.PredicateType != "https://slsa.dev/provenance/v1" || len(st.Subject) != 1 || len(st.Subject[0].Digest["sha256"]) != 64 {
		t.Errorf("%+v", st)
	}
	if d := st.Predicate.BuildDefinition; d.ResolvedDependencies[0].Digest["gitCommit"] != s.Commit || d.ExternalParameters["version"] != s.Version {
		t.Errorf("%+v", d)
	}
}

func TestTargets(t *testing.T) {
	if _, err := ParseTarget("plan9/amd64"); err == nil {
		t.Error("a platform that there is none of")
	}
	t.Setenv("PATH", t.TempDir())
	for _, target := range Targets() {
		_, err := target.Compiler()
		if target.Native() != (err == nil) || err != nil && !errors.Is(err, ErrNoCompiler) {
			t.Errorf("%s without compilers: %v", target, err)
		}
	}
	can, missing := Possible(Targets())
	if len(can)+len(missing) != len(Targets()) {
		t.Errorf("can %v, missing %v", can, missing)
	}
}
