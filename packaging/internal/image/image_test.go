package image

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLock holds the lock to name each package of each architecture once, with a
// checksum.
func TestLock(t *testing.T) {
	for _, arch := range Architectures() {
		list, err := Locked(arch)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range list {
			names = append(names, p.Name)
			if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(p.Sum) || p.Version == "" || p.Arch != arch && p.Arch != "all" {
				t.Errorf("%+v", p)
			}
		}
		if !slices.Equal(names, wanted()) {
			t.Errorf("%s: %v, want %v", arch, names, wanted())
		}
	}
	if _, err := Locked("riscv64"); err == nil {
		t.Error("an architecture without packages")
	}
}

func TestKeep(t *testing.T) {
	for _, tt := range []struct {
		pkg, name string
		want      bool
	}{
		{"libc6", "lib/x86_64-linux-gnu/libc.so.6", true}, {"libc6", "lib64/ld-linux-x86-64.so.2", true}, {"libc6", "usr/share/doc/libc6/copyright", true},
		{"libc6", "usr/lib/x86_64-linux-gnu/gconv/UTF-16.so", false}, {"libc6", "etc/ld.so.conf.d/x86_64-linux-gnu.conf", false},
		{"tzdata", "usr/share/zoneinfo/Europe/Berlin", true}, {"tzdata", "usr/share/zoneinfo/right/Europe/Berlin", false},
		{"base-files", "usr/lib/os-release", true}, {"base-files", "etc/issue", false}, {"ca-certificates", "usr/sbin/update-ca-certificates", false},
	} {
		if got := keep(tt.pkg, tt.name); got != tt.want {
			t.Errorf("%s: %s: %t", tt.pkg, tt.name, got)
		}
	}
}

// TestLayer writes a layer: sorted, with its folders, the same whatever the order.
func TestLayer(t *testing.T) {
	entries := []entry{file("usr/bin/b", "b", 0o755), file("usr/bin/a", "a", 0o644), folder("var/lib/hedgerow", 0o700, User)}
	one, err := layerTar(slices.Clone(entries), time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(entries)
	two, err := layerTar(entries, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) {
		t.Error("another order makes another layer")
	}
	dir := t.TempDir()
	if _, err := unpack(bytes.NewReader(one), dir); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"usr/bin/a": 0o644, "usr/bin/b": 0o755, "var/lib/hedgerow": 0o700, "var/lib": 0o755} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want %o", name, info, err, mode)
		}
	}
}

// TestUnpackStaysInside refuses names that lead out of the folder.
func TestUnpackStaysInside(t *testing.T) {
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeReg, Name: "../out"}, {Typeflag: tar.TypeReg, Name: "/etc/passwd"}, {Typeflag: tar.TypeLink, Name: "a", Linkname: "../../out"}, {Typeflag: tar.TypeChar, Name: "dev/null"},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := unpack(&b, t.TempDir()); err == nil {
			t.Errorf("%s → %s is unpacked", h.Name, h.Linkname)
		}
	}
}

// TestRunsOn refuses a program that is none, or needs what the image has not.
func TestRunsOn(t *testing.T) {
	if err := runsOn([]byte("#!/bin/sh"), nil); err == nil {
		t.Error("a script is no binary")
	}
	b, err := os.ReadFile("/bin/ls")
	if err != nil {
		t.Skip("there is no /bin/ls here")
	}
	if err := runsOn(b, nil); err == nil || !strings.Contains(err.Error(), "lib") {
		t.Errorf("a program that needs a library: %v", err)
	}
}

// TestDockerfile holds the Dockerfile to make the image that this package makes.
func TestDockerfile(t *testing.T) {
	b, err := os.ReadFile("../../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\nENV " + strings.Join(Environment(), " ") + "\n", "\nUSER 65532:65532\n", "\nWORKDIR /" + configDir + "\n", "\nVOLUME /" + dataFolder + "\n",
		"\nENTRYPOINT [\"/" + program + "\"]\n", "\nCMD [\"serve\"]\n", "CMD [\"/" + program + "\", \"health\"]\n", "\nEXPOSE 4100/tcp\n", "\nSTOPSIGNAL SIGTERM\n",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("it has not %q", want)
		}
	}
}
