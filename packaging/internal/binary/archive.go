package binary

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// SumsFile lists the checksums of a release's other files, as sha256sum -c reads them.
const SumsFile = "SHA256SUMS"

// extra are the files of the repository that an archive has in addition to the
// binary.
var extra = [...]string{"LICENSE", "README.md", "CHANGELOG.md"}

// unit is added for Linux.
const unit = "deploy/systemd/hedgerow.service"

// name is an archive's name without its ending.
func name(s Source, t Target) string {
	return strings.Join([]string{"hedgerow", s.Version, t.OS, t.Arch}, "-")
}

// Archive packs a binary into a .tar.gz, for Windows a .zip, in the folder dir and
// returns its file name. The same content is the same bytes.
func Archive(s Source, t Target, binary, dir string) (file string, err error) {
	base := name(s, t)
	type member struct {
		name, from string
		mode       fs.FileMode
	}
	members := []member{{t.program(), binary, 0o755}}
	for _, f := range extra {
		members = append(members, member{f, filepath.Join(s.Top, f), 0o644})
	}
	if t.OS == "linux" {
		members = append(members, member{path.Base(unit), filepath.Join(s.Top, filepath.FromSlash(unit)), 0o644})
	}
	file = base + ".tar.gz"
	if t.OS == "windows" {
		file = base + ".zip"
	}
	out, err := os.Create(filepath.Join(dir, file))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	var w archiver
	if t.OS == "windows" {
		w = newZip(out, s.Date)
	} else if w, err = newTar(out, s.Date); err != nil {
		return "", err
	}
	for _, m := range members {
		content, err := os.ReadFile(m.from)
		if err != nil {
			return "", err
		}
		if err := w.add(path.Join(base, m.name), content, m.mode); err != nil {
			return "", fmt.Errorf("pack %s: %w", m.name, err)
		}
	}
	return file, w.Close()
}

// archiver writes an archive's members.
type archiver interface {
	add(name string, content []byte, mode fs.FileMode) error
	io.Closer
}

type tarArchive struct {
	gz   *gzip.Writer
	tar  *tar.Writer
	date time.Time
}

func newTar(w io.Writer, date time.Time) (*tarArchive, error) {
	gz, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	return &tarArchive{gz, tar.NewWriter(gz), date}, nil
}

func (a *tarArchive) add(name string, content []byte, mode fs.FileMode) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: int64(mode), ModTime: a.date}
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := a.tar.Write(content)
	return err
}

func (a *tarArchive) Close() error { return errors.Join(a.tar.Close(), a.gz.Close()) }

type zipArchive struct {
	zip  *zip.Writer
	date time.Time
}

func newZip(w io.Writer, date time.Time) *zipArchive {
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	return &zipArchive{z, date}
}

func (a *zipArchive) add(name string, content []byte, mode fs.FileMode) error {
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: a.date}
	h.SetMode(mode)
	w, err := a.zip.CreateHeader(h)
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}

func (a *zipArchive) Close() error { return a.zip.Close() }

// Sum is the SHA-256 of a file, in hex.
func Sum(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// WriteSums writes [SumsFile] for files of a folder.
func WriteSums(dir string, files []string) error {
	var b strings.Builder
	for _, f := range files {
		sum, err := Sum(filepath.Join(dir, f))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s  %s\n", sum, f)
	}
	return os.WriteFile(filepath.Join(dir, SumsFile), []byte(b.String()), 0o644)
}

// CheckSums compares the files of a folder with its [SumsFile].
func CheckSums(dir string) error {
	f, err := os.Open(filepath.Join(dir, SumsFile))
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		want, file, ok := strings.Cut(lines.Text(), "  ")
		if !ok {
			return fmt.Errorf("%s: %q is no checksum and file", SumsFile, lines.Text())
		}
		got, err := Sum(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s has the checksum %s, not %s", file, got, want)
		}
	}
	return lines.Err()
}
