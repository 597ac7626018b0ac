package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/app"
	"github.com/hedgerow/hedgerow/server/internal/backup"
	"github.com/hedgerow/hedgerow/server/internal/command"
	"github.com/hedgerow/hedgerow/server/internal/config"
)

// doctorOf runs hedgerow doctor on a folder and returns its findings.
func doctorOf(t *testing.T, dir string, args ...string) (findings []command.Finding, code int) {
	t.Helper()
	out, code := hedgerow(t, append([]string{"doctor", "--offline", "--json", "--listen", "127.0.0.1:0", "--data", dir}, args...)...)
	var body struct {
		Findings []command.Finding
	}
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&body); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, f := range body.Findings {
		if advice := strings.ToLower(f.ToDo); strings.Contains(advice, "delete") || strings.Contains(advice, "remove") || strings.Contains(advice, "empty journal") {
			t.Errorf("%s: %q tells people to delete something", f.Check, f.ToDo)
		}
		if f.Severity != command.SeverityOK && f.ToDo == "" && !f.Repaired {
			t.Errorf("%s: %q does not say what to do", f.Check, f.What)
		}
	}
	return body.Findings, code
}

// TestDoctorPricesAge: doctor says how old the prices are, whether or not that is trouble.
func TestDoctorPricesAge(t *testing.T) {
	dir := made(t)
	said := func() string {
		findings, _ := doctorOf(t, dir)
		for _, f := range findings {
			if f.Check == "prices" {
				return f.What
			}
		}
		return ""
	}
	builtin, _ := price.Default().Dates()
	if got := said(); !strings.Contains(got, "of "+builtin.Format(time.DateOnly)+", ") {
		t.Errorf("the built-in prices: %q", got)
	}
	today := time.Now().UTC().AddDate(0, 0, 1) // newer than what is built in, whenever that is
	if err := price.Save(filepath.Join(dir, "prices.refreshed.json"), price.Overlay{Date: today, Rows: price.Default().Rows()[:1]}); err != nil {
		t.Fatal(err)
	}
	if got := said(); !strings.Contains(got, "of "+today.Format(time.DateOnly)+", of today") {
		t.Errorf("refreshed prices: %q", got)
	}
}

// made is a data folder with a project in it.
func made(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	c := &config.Config{Data: dir, JournalMaxBytes: "1GiB", JournalSync: "interval", LogLevel: "error", LogFormat: "text", BufferBudget: "64MiB"}
	a, err := app.Offline(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	a.Close(context.Background())
	return dir
}

func of(findings []command.Finding, check string, what ...string) (out []command.Finding) {
	for _, f := range findings {
		if f.Check == check && f.Severity != command.SeverityOK && (len(what) == 0 || strings.Contains(f.What, what[0])) {
			out = append(out, f)
		}
	}
	return out
}

func TestDoctorIsContent(t *testing.T) {
	dir := made(t)
	findings, code := doctorOf(t, dir, "--repair")
	if code != 0 {
		t.Errorf("exit code %d: %+v", code, findings)
	}
	findings, code = doctorOf(t, dir)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, f := range findings {
		if f.Severity == command.SeverityError {
			t.Errorf("%+v", f)
		}
	}
	if out, code := hedgerow(t, "doctor", "--offline", "--listen", "127.0.0.1:0", "--data", dir); code != 0 || !strings.Contains(out, "ok      secret key") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

// Each kind of damage is found, and what can be repaired is repaired by
// --repair, without anything being lost.
func TestDoctorFindsAndMends(t *testing.T) {
	write := func(t *testing.T, path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, check string
		damage      func(t *testing.T, dir string)
		what        string
		severity    command.Severity
		mends       bool
		kept        string // a file that must be there after the repair, with the damaged bytes
	}{
		{"torn prices", "prices", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "prices.json"), `{"version":1,"rows":[{"mod`)
		},
			"synced prices", command.SeverityWarning, true, "prices.json.damaged-*"},
		{"damaged settings copy", "settings copies", func(t *testing.T, dir string) {
			_ = os.Mkdir(filepath.Join(dir, "settings"), 0o700)
			write(t, filepath.Join(dir, "settings", "other.json"), `{"records": {"a"`)
		}, "is damaged", command.SeverityWarning, true, "settings/other.json.damaged-*"},
		{"secret key others can read", "file modes", func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, "secret.key"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "secret.key has mode 0644", command.SeverityError, true, "secret.key"},
		{"a file others can read", "file modes", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "prices.json.old"), "{}")
			if err := os.Chmod(filepath.Join(dir, "prices.json.old"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "prices.json.old has mode 0644", command.SeverityWarning, true, "prices.json.old"},
		{"damaged secret key", "secret key", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "secret.key"), "AAAA") },
			"cannot be used", command.SeverityError, false, "secret.key"},
		{"no secret key", "secret key", func(t *testing.T, dir string) {
			if err := os.Rename(filepath.Join(dir, "secret.key"), filepath.Join(dir, "..", "secret.key")); err != nil {
				t.Fatal(err)
			}
		}, "is missing", command.SeverityError, false, ""},
		{"store set aside", "store incidents", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "store-incidents.json"), `{"created":"2026-11-01T00:00:00Z","incidents":[{"time":"2026-11-30T02:15:30Z","kind":"damaged","set_aside":"hedgerow.duckdb.damaged-20261130-021530","refilled":true}]}`)
		}, "damaged at 2026-11-30 02:15:30 UTC", command.SeverityWarning, false, ""},
		{"store cut off", "store file", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, backup.StoreFile), 4096); err != nil {
				t.Fatal(err)
			}
		}, "is damaged", command.SeverityError, true, backup.StoreFile + ".damaged-*"},
		{"damaged stream", "journal files", func(t *testing.T, dir string) {
			metas, _ := filepath.Glob(filepath.Join(dir, "journal", "jetstream", "*", "streams", "*", "meta.inf"))
			if len(metas) == 0 {
				t.Fatal("no streams")
			}
			write(t, metas[0], `{"name":"K`)
		}, "the description of the stream", command.SeverityError, true, ""},
		{"no journal and no copies", "journal files", func(t *testing.T, dir string) {
			if err := errors.Join(os.Rename(filepath.Join(dir, "journal"), filepath.Join(dir, "..", "journal")), os.Rename(filepath.Join(dir, "settings"), filepath.Join(dir, "..", "settings"))); err != nil {
				t.Fatal(err)
			}
		}, "is missing", command.SeverityError, false, ""},
		{"no journal", "journal files", func(t *testing.T, dir string) {
			if err := os.Rename(filepath.Join(dir, "journal"), filepath.Join(dir, "..", "journal")); err != nil {
				t.Fatal(err)
			}
		}, "is missing", command.SeverityError, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := made(t)
			projects, _ := hedgerow(t, "project", "list", "--data", dir)
			tt.damage(t, dir)
			before := contents(t, dir)
			findings, code := doctorOf(t, dir)
			list := of(findings, tt.check, tt.what)
			if len(list) == 0 || !strings.Contains(list[0].What, tt.what) || list[0].Severity != tt.severity || list[0].Repairable != tt.mends || list[0].Repaired {
				t.Fatalf("found %+v", list)
			}
			if (code != 0) != (tt.severity == command.SeverityError) {
				t.Errorf("exit code %d", code)
			}
			if tt.severity == command.SeverityError {
				for _, name := range before {
					if _, err := os.Lstat(filepath.Join(dir, name)); err != nil && !strings.HasSuffix(name, ".wal") && !strings.HasSuffix(name, ".sock") {
						t.Errorf("without --repair %s has gone", name)
					}
				}
			}
			if !tt.mends {
				return
			}
			findings, _ = doctorOf(t, dir, "--repair")
			if list = of(findings, tt.check, tt.what); len(list) == 0 || !list[0].Repaired {
				t.Fatalf("not mended: %+v\nall: %+v", list, findings)
			}
			if tt.kept != "" {
				if kept, _ := filepath.Glob(filepath.Join(dir, tt.kept)); len(kept) != 1 {
					t.Errorf("%s is not there: %v", tt.kept, contents(t, dir))
				}
			}
			if left, code := hedgerow(t, "project", "list", "--data", dir); code != 0 || left != projects {
				t.Errorf("the projects were\n%s\nand are (exit code %d)\n%s", projects, code, left)
			}
			if findings, _ = doctorOf(t, dir); len(of(findings, tt.check, tt.what)) > 0 && of(findings, tt.check, tt.what)[0].Severity == command.SeverityError {
				t.Errorf("found again: %+v", of(findings, tt.check, tt.what))
			}
		})
	}
}

// A wrong hedgerow.yaml is named with its line, and is exit code 2.
func TestDoctorNamesAWrongSetting(t *testing.T) {
	dir := made(t)
	file := filepath.Join(t.TempDir(), "hedgerow.yaml")
	for text, want := range map[string]string{"listen: 127.0.0.1:4100\nprices:\n  - {model: [\n": "not valid YAML", "listen: 1\njournal_sink: always\n": "line 2"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		findings, code := doctorOf(t, dir, "--config", file)
		if list := of(findings, "configuration"); code != config.ExitConfig || len(list) != 1 || !strings.Contains(list[0].Why, want) {
			t.Errorf("%q: exit code %d, %+v", text, code, list)
		}
	}
}

// Too little free space is found before it stops the journal.
func TestDoctorFindsAFullDisk(t *testing.T) {
	dir := made(t)
	findings, code := doctorOf(t, dir, "--min-free-disk", "100%")
	if list := of(findings, "free disk"); len(list) != 1 {
		t.Errorf("exit code %d: %+v", code, findings)
	}
}
