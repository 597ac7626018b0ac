package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

func unpack(r io.Reader, dir string) (size int64, err error) {
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return size, fmt.Errorf("read the image: %w", err)
		}
		to, err := inside(dir, h.Name)
		if err != nil {
			return size, err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return size, err
		}
		mode := fs.FileMode(h.Mode).Perm()
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(to, mode)
		case tar.TypeReg:
			err = write(t, to, mode)
			size += h.Size
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, to)
		case tar.TypeLink:
			var from string
			if from, err = inside(dir, h.Linkname); err == nil {
				err = os.Link(from, to)
			}
		default:
			err = fmt.Errorf("%s is of an unknown kind", h.Name)
		}
		if err != nil {
			return size, err
		}
		if h.Typeflag == tar.TypeDir {
			if err := os.Chmod(to, mode); err != nil { // whatever the umask
				return size, err
			}
		}
		if os.Getuid() == 0 {
			if err := os.Lchown(to, h.Uid, h.Gid); err != nil {
				return size, err
			}
		}
	}
}

func write(r io.Reader, to string, mode fs.FileMode) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
