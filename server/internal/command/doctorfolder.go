package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/app"
	"github.com/hedgerow/hedgerow/server/internal/backup"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/disk"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/kv"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/pricefeed"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// folderChecks check the data folder and the machine without opening it.
// Their repairs keep the originals under another name.
var folderChecks = []check{
	{"file modes", (*doctor).modes},
	{"secret key", (*doctor).secretKey},
	{"prices", (*doctor).pricesFile},
	{"settings copies", (*doctor).settingsCopies},
	{"journal files", (*doctor).journalFiles},
	{"store file", (*doctor).storeFile},
	{"store incidents", (*doctor).setAside},
	{"free disk", (*doctor).freeDisk},
	{"open files", (*doctor).openFiles},
}

// opensByItself reports whether opening the folder repairs a check's findings.
func opensByItself(check string) bool {
	return check == "journal files" || check == "store file"
}

// aside renames a file that cannot be used; nothing of it is lost.
func aside(path string) error {
	to := path + kv.DamagedSuffix + time.Now().UTC().Format("20060102-150405")
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("%s exists already", to)
	}
	return os.Rename(path, to)
}

// modes finds files of the folder that others can read, or that hedgerow itself
// cannot.
func (d *doctor) modes(context.Context) (out []Finding) {
	if runtime.GOOS == "windows" {
		return []Finding{{What: "are the file system's on this system"}}
	}
	paths := []string{d.c.Data}
	for _, pattern := range []string{"*", "settings/*"} {
		more, err := filepath.Glob(filepath.Join(d.c.Data, pattern))
		if err != nil {
			return []Finding{troubleOf("", "the files cannot be listed", err)}
		}
		paths = append(paths, more...)
	}
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
			continue
		}
		mode, least := info.Mode().Perm(), fs.FileMode(0o600)
		if info.IsDir() {
			least = 0o700
		}
		want := mode&^0o077 | least
		if mode == want {
			continue
		}
		f := Finding{Severity: SeverityWarning, What: fmt.Sprintf("%s has mode %04o", path, mode), Why: "others on this machine can read it",
			ToDo: fmt.Sprintf("chmod %o %s", want, path), Repairable: true, repair: func(context.Context) error { return os.Chmod(path, want) }}
		if mode&least != least {
			f.Severity, f.Why = SeverityError, "hedgerow needs to read and write it"
		} else if filepath.Base(path) == "secret.key" {
			f.Severity, f.Why = SeverityError, "others on this machine can read it, and hedgerow does not start with it"
			f.ToDo += "; if others could have read it, rotate the key"
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		out = append(out, Finding{What: "only this user reads the folder"})
	}
	return out
}

// lostKey is what to do without the secret key.
const lostKey = "restore the file from your own copy, or set HEDGEROW_SECRET_KEY to the key. If neither exists, start with a new data folder and keep this one: its events can be read again once the key is found"

func (d *doctor) secretKey(context.Context) []Finding {
	path := d.c.Path("secret.key")
	if d.c.SecretKey == "" {
		switch _, err := os.Stat(path); {
		case errors.Is(err, fs.ErrNotExist) && d.sealedCopies():
			return []Finding{{Severity: SeverityError, What: path + " is missing", Why: "the settings contain keys encrypted with it, which cannot be decrypted without it",
				ToDo: lostKey}}
		case errors.Is(err, fs.ErrNotExist):
			return []Finding{{What: "it does not exist yet; hedgerow serve creates it"}}
		}
	}
	if _, err := project.LoadSecretKey(d.c.SecretKey, path); err != nil {
		f := troubleOf("", "the secret key cannot be used", err)
		if !strings.Contains(f.ToDo, "chmod") {
			f.ToDo = lostKey
		}
		return []Finding{f}
	}
	return []Finding{{What: "can be read"}}
}

// sealedCopies reports whether a copy of the settings contains an encrypted
// value.
func (d *doctor) sealedCopies() bool {
	paths, _ := filepath.Glob(d.c.Path("settings", "*.json"))
	for _, p := range paths {
		records, err := kv.ReadLastGood(p)
		if err != nil {
			continue // reported by settings copies
		}
		for _, r := range records {
			if bytes.Contains(r, []byte(`"s1.`)) {
				return true
			}
		}
	}
	return false
}

func (d *doctor) pricesFile(context.Context) []Finding {
	path := d.c.Path("prices.json")
	_, err := price.Load(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d.pricesAge("those of the built-in table")
	case err != nil:
		f := troubleOf("", "the synced prices in "+path+" cannot be read", err)
		f.Severity, f.Repairable = SeverityWarning, true
		f.Why += "; costs are computed with the built-in table"
		f.ToDo = "hedgerow prices sync rewrites the file"
		f.repair = func(context.Context) error { return aside(path) }
		return []Finding{f}
	}
	return d.pricesAge("the synced prices can be read")
}

// pricesAge reports the age of the prices.
func (d *doctor) pricesAge(what string) []Finding {
	t, err := d.c.LoadPrices()
	if err != nil {
		return []Finding{{What: what}} // own prices: reported by another check
	}
	now := time.Now()
	words := pricefeed.FormatAge(t, now)
	if _, date := t.Dates(); now.Sub(date) < pricefeed.MaxAge {
		return []Finding{{What: what + ", " + words}}
	}
	return []Finding{{Severity: SeverityWarning, What: "the prices are " + words, Why: "newer models have no cost, and changed prices are wrong",
		ToDo: "let hedgerow reach " + price.SourceName(price.GenAIFeed) + " (prices_refresh), or upgrade hedgerow"}}
}

// settingsCopies checks the copies of the settings that are kept outside the
// journal, with which hedgerow starts where the journal cannot be read.
func (d *doctor) settingsCopies(context.Context) (out []Finding) {
	paths, err := filepath.Glob(d.c.Path("settings", "*.json"))
	if err != nil || len(paths) == 0 {
		if _, err := os.Stat(d.c.Path("journal")); err != nil {
			return []Finding{{Severity: SeverityError, What: "there is neither a journal nor a copy of the settings", ToDo: "restore a backup with hedgerow restore, or put the journal folder back"}}
		}
		return []Finding{{Severity: SeverityWarning, What: "they do not exist yet", Why: "the settings are in the journal only", ToDo: "start hedgerow serve: it writes them", Repairable: !d.running}}
	}
	for _, path := range paths {
		_, err := kv.ReadLastGood(path)
		if err == nil {
			continue
		}
		f := Finding{Severity: SeverityWarning, What: path + " is damaged", Why: err.Error() + "; the settings themselves are in the journal", Repairable: true,
			ToDo: "hedgerow rewrites it at its next start, or at the next change of a setting", repair: func(context.Context) error { return aside(path) }}
		if _, err := os.Stat(d.c.Path("journal")); err != nil {
			f.Severity, f.Repairable, f.repair = SeverityError, false, nil
			f.Why, f.ToDo = "there is no journal with the settings either", "restore a backup with hedgerow restore, or put the journal folder back"
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		out = append(out, Finding{What: fmt.Sprintf("%d can be read", len(paths))})
	}
	return out
}

// journalFiles reads every record in the files of the journal, and the recorded
// damage.
func (d *doctor) journalFiles(ctx context.Context) (out []Finding) {
	if d.c.NATSURL != "" {
		return []Finding{{What: "the journal is in the cluster of nats_url"}}
	}
	dir := d.c.Path("journal")
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return []Finding{{Severity: SeverityError, What: "the folder " + dir + " is missing", Why: "it contains the settings and the events that have not been stored or delivered yet",
			ToDo: "put the folder back if it was moved; otherwise start hedgerow serve, which recreates it and restores the settings from their copies, if any, or restore a backup to another folder with hedgerow restore", Repairable: !d.running && d.c.SettingsCopied()}}
	case err != nil:
		return []Finding{troubleOf("", "the folder "+dir+" cannot be read", err)}
	case !info.IsDir():
		return []Finding{{Severity: SeverityError, What: dir + " is a file, not a folder", ToDo: "move the file to another place and put the journal's folder back"}}
	}
	problems, err := journal.Check(ctx, dir)
	if err != nil {
		out = append(out, troubleOf("", "the files in "+dir+" cannot be read", err))
	}
	for _, p := range problems {
		f := Finding{Severity: SeverityWarning, What: p.What, Why: p.Where, ToDo: p.Repair}
		if p.Repairable {
			f.Severity, f.Repairable = SeverityError, !d.running
			f.ToDo = "start hedgerow serve, or run hedgerow doctor --repair while it does not run: it " + p.Repair
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		out = append(out, Finding{What: "every record in the files of the journal can be read"})
	}
	return out
}

// storeFile checks the header of the store's file. DuckDB writes "DUCK" after
// a checksum of eight bytes, and three blocks of 4 KiB before all data.
func (d *doctor) storeFile(context.Context) []Finding {
	path := d.c.Path(backup.StoreFile)
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Finding{{Severity: SeverityWarning, What: "store not found", Why: "it was not created yet, or it was removed", Repairable: !d.running, ToDo: "start hedgerow serve: it creates one and fills it from the journal"}}
	case err != nil:
		return []Finding{troubleOf("", path+" cannot be read", err)}
	}
	defer f.Close()
	head := make([]byte, 3*4096)
	n, err := io.ReadFull(f, head)
	if err == nil && string(head[8:12]) == "DUCK" {
		return []Finding{{What: path + " has a valid store header"}}
	}
	why := "it does not begin with a store header"
	if n < len(head) {
		why = fmt.Sprintf("it has only %d bytes: it was cut off", n)
	}
	return []Finding{{Severity: SeverityError, What: path + " is damaged", Why: why, Repairable: !d.running,
		ToDo: "start hedgerow serve: it sets the file aside under a dated name, creates a new one and fills it from the journal; restore older events from a backup with hedgerow restore"}}
}

// setAside finds past incidents of the store's file: each is a warning until a
// user acknowledges it on the pages.
func (d *doctor) setAside(context.Context) (out []Finding) {
	list, err := store.ReadIncidents(d.c.Path(backup.StoreFile))
	if err != nil {
		return []Finding{{Severity: SeverityWarning, What: "the list of store incidents cannot be read", Why: err.Error(), ToDo: "no action needed: it starts over at the next start"}}
	}
	for _, i := range list {
		f := Finding{What: i.Message(), Why: i.Cause}
		if !i.Acknowledged {
			f.Severity, f.ToDo = SeverityWarning, "restore the last backup from before that time to another folder to see older events; the pages show how to acknowledge it"
			if i.SetAside != "" {
				f.ToDo += "; keep " + d.c.Path(i.SetAside) + " until you are sure you do not need it"
			}
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		out = append(out, Finding{What: "nothing"})
	}
	return out
}

func (d *doctor) freeDisk(context.Context) []Finding {
	u, err := disk.Of(d.c.Data)
	if err != nil {
		return []Finding{troubleOf("", "the free space cannot be read", err)}
	}
	limit, err := disk.ParseLimit(d.c.MinFreeDisk, config.ParseSize)
	if err != nil {
		return []Finding{troubleOf("", "min_free_disk cannot be used", err)}
	}
	least := limit.Of(u.Total)
	what := fmt.Sprintf("%s of %s free", disk.FormatSize(u.Free), disk.FormatSize(u.Total))
	f := Finding{What: what, ToDo: "free space on the disk of " + d.c.Data + ", shorten the retention of the projects, or move the folder to a larger disk"}
	switch {
	case u.Free < least:
		f.Severity, f.Why = SeverityError, "that is less than min_free_disk ("+disk.FormatSize(least)+"): new events are rejected, calls are forwarded but not recorded"
	case u.Free < 2*least:
		f.Severity, f.Why = SeverityWarning, "that is less than twice min_free_disk ("+disk.FormatSize(least)+"): retention runs early, and soon content is no longer kept"
	default:
		f.ToDo = ""
	}
	return []Finding{f}
}

func (d *doctor) openFiles(context.Context) []Finding {
	const enough = 4096
	n, err := app.RaiseFiles()
	if err != nil {
		return []Finding{troubleOf("", "the limit of open files cannot be raised", err)}
	}
	if n == 0 || n >= enough {
		return []Finding{{What: fmt.Sprintf("%d may be open", n)}}
	}
	f := Finding{Severity: SeverityWarning, What: fmt.Sprintf("only %d may be open", n), Why: "each connection is one; the journal and the store need some hundred",
		ToDo: "raise the limit: ulimit -n, LimitNOFILE= in a systemd unit, --ulimit nofile= of Docker"}
	if n < 1024 {
		f.Severity = SeverityError
	}
	return []Finding{f}
}

// posthogHosts reports which private hosts are allowed, and checks the
// certificates of their authorities.
func (d *doctor) posthogHosts(context.Context) []Finding {
	hosts := d.c.AllowedHosts()
	if hosts == nil {
		return []Finding{{What: "only public ones are allowed"}}
	}
	out := []Finding{{What: "allowed in addition to public ones: " + hosts.String()}}
	if d.c.PostHogCA == "" {
		return out
	}
	_, certs, err := posthog.LoadCA(d.c.PostHogCA)
	if err != nil {
		return append(out, troubleOf("", "the certificates of posthog_ca cannot be read", err))
	}
	for _, cert := range certs {
		name := cert.Subject.CommonName
		if name == "" {
			name = cert.Subject.String()
		}
		f := Finding{What: fmt.Sprintf("%s: %s, valid until %s", d.c.PostHogCA, name, cert.NotAfter.UTC().Format(time.DateOnly))}
		switch now := time.Now(); {
		case now.After(cert.NotAfter):
			f.Severity, f.Why, f.ToDo = SeverityError, "it has expired: connections to those hosts will fail", "put the authority's new certificate into the file and restart hedgerow"
		case now.AddDate(0, 0, 30).After(cert.NotAfter):
			f.Severity, f.Why, f.ToDo = SeverityWarning, "that is within 30 days", "put the authority's new certificate into the file and restart hedgerow"
		}
		out = append(out, f)
	}
	return out
}
