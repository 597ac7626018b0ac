package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/backup"
	"github.com/hedgerow/hedgerow/server/internal/config"
)

// A folder that has things in it and none of hedgerow's is not filled.
func TestForeignDataFolder(t *testing.T) {
	t.Setenv("HEDGEROW_DATA", "")
	for name, tt := range map[string]struct {
		has  []string // folders end in a slash
		fine bool
	}{
		"a system's":                {has: []string{"passwd", "ssl/certs.pem", "hosts"}},
		"one file":                  {has: []string{"notes.txt"}},
		"logs":                      {has: []string{"journal/1234/system.journal", "syslog"}},
		"another program's":         {has: []string{"settings/app.json", "app.db"}},
		"a config beside others":    {has: []string{"hedgerow.yaml", "main.go"}},
		"nothing":                   {fine: true},
		"a new disk":                {has: []string{"lost+found/"}, fine: true},
		"a key":                     {has: []string{"secret.key"}, fine: true},
		"prices":                    {has: []string{"prices.json"}, fine: true},
		"a config":                  {has: []string{"hedgerow.yaml"}, fine: true},
		"a config of another name":  {has: []string{"staging.yml", ".gitkeep"}, fine: true},
		"3b558a2's":                 {has: []string{"hedgerow.duckdb", "secret.key", "journal/jetstream/x", "journal/journal.lock"}, fine: true},
		"3b558a2's with a key set":  {has: []string{"journal/jetstream/x", "notes.txt"}, fine: true},
		"hedgerow's beside others":  {has: []string{"hedgerow.duckdb", "notes.txt"}, fine: true},
		"left by a first start":     {has: []string{"journal/journal.lock", "notes.txt"}, fine: true},
		"what is left after damage": {has: []string{"journal/", "settings/hedgerow.json", "store-incidents.json", "hedgerow.duckdb.damaged"}, fine: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for _, path := range tt.has {
				file := filepath.Join(dir, path)
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(path, "/") {
					if err := os.MkdirAll(file, 0o700); err != nil {
						t.Fatal(err)
					}
				} else if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := (&config.Config{Data: dir}).RefuseForeign("")
			if tt.fine {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if exit := (*config.ExitError)(nil); !errors.As(err, &exit) || exit.Code != config.ExitConfig {
				t.Fatalf("%v, want exit code 2", err)
			}
			before := contents(t, dir)
			for _, args := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"demo", "--listen", "127.0.0.1:0"}, {"restore", backupIn(t)}} {
				out, code := hedgerow(t, append(args, "--data", dir)...)
				if code != config.ExitConfig || !strings.Contains(out, dir) || !strings.Contains(out, "not hedgerow's") || !strings.Contains(out, "--data") {
					t.Errorf("%v: exit code %d: %s", args, code, out)
				}
			}
			if after := contents(t, dir); !slices.Equal(before, after) {
				t.Errorf("there was %v, now %v", before, after)
			}
		})
	}
	if err := (&config.Config{Data: filepath.Join(t.TempDir(), "none")}).RefuseForeign(""); err != nil {
		t.Error(err)
	}
}

// A backup in the folder to which it is restored is no reason to refuse.
func TestBackupInsideDataFolder(t *testing.T) {
	dir := t.TempDir()
	backup := filepath.Join(dir, "copy")
	if err := os.Mkdir(backup, 0o700); err != nil {
		t.Fatal(err)
	}
	c := &config.Config{Data: dir}
	if c.RefuseForeign("") == nil || c.RefuseForeign(backup) != nil || c.RefuseForeign(t.TempDir()) == nil {
		t.Error("only the backup's own folder may be there")
	}
}

// backupIn makes a folder that looks like a backup.
func backupIn(t *testing.T) string {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, backup.SettingsFile), []byte(`{"hedgerow":"x","bucket":{"a":"e30="}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
