package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ownMarks are the files of which any version's data folder has at least one once
// hedgerow has been started on it. A folder with one is hedgerow's, whatever else
// is in it.
var ownMarks = []string{"secret.key", "hedgerow.duckdb", "hedgerow.sock", filepath.Join("journal", "journal.lock"), filepath.Join("journal", "jetstream")}

// mayStand reports whether an entry may be in a data folder that hedgerow has not
// been started on yet: it is hedgerow's own, or one that someone or the system
// has put there beforehand.
func mayStand(name string) bool {
	switch {
	case slices.Contains([]string{"journal", "settings", "prices.json", "store-incidents.json", "lost+found"}, name),
		strings.HasPrefix(name, "hedgerow"), strings.HasPrefix(name, "secret.key"), strings.HasPrefix(name, "prices."), strings.HasPrefix(name, "."):
		return true
	}
	ext := filepath.Ext(name)
	return ext == ".yaml" || ext == ".yml"
}

// RefuseForeign returns an error for a data folder of another program: one that
// is not empty and has no file of hedgerow. besides is a file or folder to
// ignore; "" is none. It returns nil for an unreadable folder, which opening
// reports.
func (c *Config) RefuseForeign(besides string) error {
	entries, err := os.ReadDir(c.Data)
	if err != nil {
		return nil
	}
	for _, mark := range ownMarks {
		if _, err := os.Lstat(c.Path(mark)); err == nil {
			return nil
		}
	}
	for _, e := range entries {
		if mayStand(e.Name()) || besides != "" && sameFile(besides, c.Path(e.Name())) {
			continue
		}
		return Invalid("the folder "+c.Data+" contains files that are not hedgerow's ("+e.Name()+")", "use an empty or new folder with --data, HEDGEROW_DATA or data: in hedgerow.yaml", nil)
	}
	return nil
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
