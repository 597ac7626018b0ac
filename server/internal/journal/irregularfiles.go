package journal

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// oddFiles sets aside anything that is not a regular file in the place of a
// stream's file: a folder, a broken link, a pipe, which would block forever. The
// file is then missing, which the later checks find.
func (in *inspection) oddFiles(name, folder string) (*Damage, error) {
	var odd []string
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.Type().IsRegular(), e.IsDir() && !fileOfStream(e.Name()):
			return nil
		}
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return nil // a link to a file
		} else if err != nil && passing(err) && e.Type()&fs.ModeSymlink == 0 {
			return err
		}
		odd = append(odd, path)
		if e.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil || len(odd) == 0 {
		return nil, err
	}
	d := &Damage{Stream: name, Found: in.c.Now().UTC(), What: fmt.Sprintf("%s in the stream %s is not a file, and was set aside", filepath.Base(odd[0]), name)}
	if !in.mend {
		return d, nil
	}
	if d.Path, err = setAside(in.c, name); err != nil {
		return nil, err
	}
	for _, path := range odd {
		if err := os.Rename(path, filepath.Join(d.Path, filepath.Base(path))); err != nil {
			return nil, err
		}
	}
	d.Mended = d.Found
	return d, d.write()
}

// fileOfStream reports whether NATS keeps a file under a name.
func fileOfStream(name string) bool {
	switch filepath.Ext(name) {
	case ".blk", ".db", ".inf", ".sum", ".dat", ".key":
		return !strings.HasPrefix(name, ".")
	}
	return false
}
