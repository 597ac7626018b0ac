package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/kv"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// The names of the key-value buckets in which a server keeps imports and their lines.
const (
	ImportsBucket = "bill_imports"
	DaysBucket    = "bill_days"
)

// Import is an import of one feed: one report of one provider. A later import replaces
// its days one by one; it is deleted with its last day.
type Import struct {
	ID        string    `json:"id"` // bill_…
	ProjectID string    `json:"project"`
	Feed      Feed      `json:"feed"`
	Provider  string    `json:"provider"`
	Accounts  []string  `json:"accounts"`
	Files     []string  `json:"files"`   // their names
	Fetched   bool      `json:"fetched"` // read from the provider's API with an admin key
	At        time.Time `json:"imported_at"`
	From      string    `json:"from"`        // the first UTC day
	To        string    `json:"to"`          // the last
	Days      int       `json:"days"`        // days of accounts that it has
	DaysUsed  int       `json:"days_in_use"` // those that no later import has replaced
	Lines     int       `json:"lines"`
	USD       USD       `json:"usd"`             // null for reports without amounts
	Unknown   []string  `json:"unknown_columns"` // columns and fields that were not read
	Notes     []string  `json:"notes"`
	Hash      string    `json:"hash"` // SHA-256 of what was read
	Complete  bool      `json:"complete"`
	Unchanged bool      `json:"unchanged,omitempty"` // in answers: it was there already
}

// dayRecord is a day of a feed and an account.
type dayRecord struct {
	Import  string          `json:"import"`
	Feed    Feed            `json:"feed"`
	Account string          `json:"account"`
	Day     string          `json:"day"`
	Step    decimal.Decimal `json:"step"`
	Lines   []Line          `json:"lines"`
}

// Buckets are the two key-value buckets of a registry.
type Buckets struct {
	Imports jetstream.KeyValue // small records, all of them in memory
	Days    jetstream.KeyValue // lines (PROJECT.FEED.ACCOUNT.MONTH.DAY): read on request
}

// Options are a registry's settings.
type Options struct {
	Audit    project.Auditor // notes who imported and erased. nil notes nothing
	LastGood string          // see kv.Config
	// Keep is how long a project keeps the events of a day, and with them its bills;
	// 0 is forever. nil keeps all forever.
	Keep   func(projectID string) time.Duration
	Now    func() time.Time // Defaults to time.Now
	Logger *slog.Logger     // Defaults to none
}

// Registry stores imported bills of all projects. Its errors are [*event.Error].
type Registry struct {
	imports *kv.Collection[Import]
	days    jetstream.KeyValue
	o       Options
	mu      sync.Mutex // one import or deletion at a time
}

// Open loads the imports and begins to watch them.
func Open(ctx context.Context, b Buckets, o Options) (*Registry, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	imports, err := kv.OpenCollection[Import](ctx, b.Imports, kv.CollectionConfig{Noun: "imported bill", LastGood: o.LastGood, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	return &Registry{imports: imports, days: b.Days, o: o}, nil
}

// Health returns the health of the list of imports.
func (r *Registry) Health() health.Report { return r.imports.Health() }

// Close ends the watch.
func (r *Registry) Close() error { return r.imports.Close() }

// Imports returns a project's imports, the newest first.
func (r *Registry) Imports(projectID string) []Import {
	list := r.imports.List(projectID)
	slices.SortStableFunc(list, func(a, b Import) int { return b.At.Compare(a.At) })
	return list
}

// DefaultAccount is the account of exports that name none.
const DefaultAccount = "default"

// maxImports bounds the imports of a project.
const maxImports = 1000

// Source says where files come from.
type Source struct {
	// Account keeps apart what is billed to several accounts of a provider. "" is the
	// account that the export names or, where it names none, [DefaultAccount].
	Account string
	Fetched bool // read by a [Fetcher]
}

// Import reads files and keeps their lines, one import per feed. Of days that an
// earlier import has of the same feed and account the new lines take the place. What
// has been imported already is returned as it is. Unless all files can be read,
// nothing is kept.
func (r *Registry) Import(ctx context.Context, projectID string, from Source, files ...File) ([]Import, error) {
	from.Account = strings.TrimSpace(from.Account)
	if len(from.Account) > 100 || strings.ContainsFunc(from.Account, unicode.IsControl) {
		return nil, event.Invalid("the account's name cannot be used", "use one line of at most 100 characters")
	}
	exports, err := Parse(files...)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(files))
	for _, f := range files {
		if f.Name != "" {
			names = append(names, clean(f.Name))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Import, 0, len(exports))
	for _, x := range exports {
		m, err := r.keep(ctx, projectID, from, names, x)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	if err := r.retain(ctx, projectID); err != nil {
		return nil, err
	}
	return out, nil
}

func (r *Registry) keep(ctx context.Context, projectID string, from Source, names []string, x Export) (Import, error) {
	x, err := r.kept(projectID, x)
	if err != nil {
		return Import{}, err
	}
	records, err := split(x, from.Account)
	if err != nil {
		return Import{}, err
	}
	if len(records) == 0 {
		return Import{}, event.Invalid("the files cover no days", accepted)
	}
	encoded, err := json.Marshal(records)
	if err != nil {
		return Import{}, err
	}
	sum := sha256.Sum256(encoded)
	m := Import{
		ID: project.NewID("bill"), ProjectID: projectID, Feed: x.Feed, Provider: x.Feed.Provider(), Files: names, Fetched: from.Fetched, At: r.o.Now().UTC(),
		From: x.Days[0], To: x.Days[len(x.Days)-1], Days: len(records), DaysUsed: len(records), Lines: len(x.Lines), Unknown: x.Unknown, Notes: x.Notes, Hash: hex.EncodeToString(sum[:]),
	}
	for _, rec := range records {
		if !slices.Contains(m.Accounts, rec.Account) {
			m.Accounts = append(m.Accounts, rec.Account)
		}
	}
	for _, l := range x.Lines {
		m.USD = USD(plus(Amount(m.USD), l.USD))
	}
	if x.Feed.Costs() && !m.USD.Known {
		m.USD = USD(event.Some(decimal.Zero))
	}
	if m.Unknown == nil {
		m.Unknown = []string{}
	}
	have, err := r.counted(ctx, projectID, x.Feed)
	if err != nil {
		return Import{}, err
	}
	for _, old := range have {
		if old.Hash == m.Hash && old.Complete && old.DaysUsed == old.Days {
			old.Unchanged = true
			return old, nil
		}
	}
	if len(have) >= maxImports {
		return Import{}, event.Invalid(fmt.Sprintf("there are %d imports already", len(have)), "delete imports of old periods")
	}
	// The record of the import comes first: what a crash leaves can be erased by it, and
	// the import can be repeated.
	if err := r.imports.Create(ctx, projectID, m.ID, m); err != nil {
		return Import{}, err
	}
	replaced := make(map[string]int) // days taken from earlier imports
	for _, rec := range records {
		rec.Import = m.ID
		old, err := r.put(ctx, projectID, rec)
		if err != nil {
			return Import{}, err
		}
		if old != "" {
			replaced[old]++
		}
	}
	for id, n := range replaced {
		if err := r.lose(ctx, projectID, id, n); err != nil {
			return Import{}, err
		}
	}
	if m, err = r.imports.Change(ctx, projectID, m.ID, func(m *Import) error { m.Complete = true; return nil }); err != nil {
		return Import{}, err
	}
	r.note(ctx, "bill.import", m)
	return m, nil
}

// kept is an export without the days whose events the project does not keep.
func (r *Registry) kept(projectID string, x Export) (Export, error) {
	oldest := r.oldest(projectID)
	n := 0
	for n < len(x.Days) && x.Days[n] < oldest {
		n++
	}
	if n == 0 {
		return x, nil
	}
	if n == len(x.Days) {
		return x, event.Invalid("the project keeps events and bills from "+oldest+" on, and the bill ends on "+x.Days[n-1], "keep events longer (Projects, or metrics_days), or import a later bill")
	}
	x.Days = x.Days[n:]
	x.Lines = slices.DeleteFunc(slices.Clone(x.Lines), func(l Line) bool { return l.Day < oldest })
	x.Notes = append(slices.Clip(x.Notes), "days before "+oldest+", which the project does not keep: "+strconv.Itoa(n))
	return x, nil
}

// oldest is the first day whose events a project keeps; "" if it keeps all.
func (r *Registry) oldest(projectID string) string {
	if r.o.Keep == nil {
		return ""
	}
	keep := r.o.Keep(projectID)
	if keep <= 0 {
		return ""
	}
	return dayOf(r.o.Now().Add(-keep))
}

// counted returns a project's imports. If one of a feed is not complete, since its
// process was killed, the days of the feed's others are counted again.
func (r *Registry) counted(ctx context.Context, projectID string, f Feed) ([]Import, error) {
	have := r.imports.List(projectID)
	if !slices.ContainsFunc(have, func(m Import) bool { return m.Feed == f && !m.Complete }) {
		return have, nil
	}
	days := make(map[string]int)
	if err := r.each(ctx, func(_ string, d *dayRecord) error { days[d.Import]++; return nil }, projectID+"."+string(f)+".>"); err != nil {
		return nil, err
	}
	for _, m := range have {
		if n := m.DaysUsed - days[m.ID]; m.Feed == f && n > 0 {
			if err := r.lose(ctx, projectID, m.ID, n); err != nil {
				return nil, err
			}
		}
	}
	return r.imports.List(projectID), nil
}

// Bounds of what is kept.
const (
	maxDayBytes   = 7 << 20 // of the lines of a day: a message of the journal holds 8 MiB
	maxDayRecords = 30_000  // days of accounts in an import
)

// split makes a record of each day and account. Days without lines have one, too: they
// are known to have cost nothing.
func split(x Export, account string) ([]dayRecord, error) {
	accounts := []string{account}
	if account == "" {
		accounts = nil
		for _, l := range x.Lines {
			if l.Account != "" && !slices.Contains(accounts, l.Account) {
				accounts = append(accounts, l.Account)
			}
		}
		if len(accounts) == 0 {
			accounts = []string{DefaultAccount}
		}
		slices.Sort(accounts)
	}
	if len(accounts)*len(x.Days) > maxDayRecords {
		return nil, event.NewError(event.CodeTooLarge, fmt.Sprintf("the export has %d accounts and %d days, too many for one import", len(accounts), len(x.Days)), "export fewer accounts or a shorter period", nil)
	}
	var out []dayRecord
	at := make(map[[2]string]int)
	for _, a := range accounts {
		for _, d := range x.Days {
			at[[2]string{a, d}] = len(out)
			out = append(out, dayRecord{Feed: x.Feed, Account: a, Day: d, Step: x.Step, Lines: []Line{}})
		}
	}
	for _, l := range x.Lines {
		a := l.Account
		if account != "" || a == "" {
			a = accounts[0]
		}
		rec := &out[at[[2]string{a, l.Day}]]
		l.Account = ""
		rec.Lines = append(rec.Lines, l)
	}
	for _, rec := range out {
		if b, err := json.Marshal(rec); err != nil {
			return nil, err
		} else if len(b) > maxDayBytes {
			return nil, event.NewError(event.CodeTooLarge, "the lines of "+rec.Day+" are too many to be kept", "export with fewer groups: by line item or model alone", nil)
		}
	}
	return out, nil
}

// key is the key of a day. Accounts have names that no key may have.
func (d *dayRecord) key(projectID string) string {
	sum := sha256.Sum256([]byte(d.Account))
	return strings.Join([]string{projectID, string(d.Feed), hex.EncodeToString(sum[:8]), d.Day[:7], d.Day[8:]}, ".")
}

// put writes a day and returns the other import that had it, if any.
func (r *Registry) put(ctx context.Context, projectID string, rec dayRecord) (old string, err error) {
	key := rec.key(projectID)
	e, err := r.days.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
	case err != nil:
		return "", unavailable(err)
	default:
		var have dayRecord
		if json.Unmarshal(e.Value(), &have) == nil && have.Import != rec.Import {
			old = have.Import
		}
	}
	b, err := json.Marshal(rec)
	if err != nil {
		return "", err
	}
	if _, err := r.days.Put(ctx, key, b); err != nil {
		return "", unavailable(err)
	}
	return old, nil
}

// lose notes that an import has n days less, and deletes one that has none left.
func (r *Registry) lose(ctx context.Context, projectID, id string, n int) error {
	m, err := r.imports.Change(ctx, projectID, id, func(m *Import) error { m.DaysUsed = max(m.DaysUsed-n, 0); return nil })
	if err == nil && m.DaysUsed == 0 {
		err = r.imports.Delete(ctx, projectID, id)
	}
	if err != nil && event.AsError(err).Code == event.CodeNotFound {
		return nil
	}
	return err
}

// Delete erases an import with those of its days that are in use.
func (r *Registry) Delete(ctx context.Context, projectID, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.imports.Get(projectID, id)
	if !ok {
		return event.NewError(event.CodeNotFound, "imported bill not found in this project", "list them to see which exist", nil)
	}
	if err := r.purge(ctx, projectID, func(d *dayRecord) bool { return d.Import == id }); err != nil {
		return err
	}
	if err := r.imports.Delete(ctx, projectID, id); err != nil {
		return err
	}
	r.note(ctx, "bill.erase", m)
	return nil
}

// Erase deletes all bills of a project that is being deleted.
func (r *Registry) Erase(ctx context.Context, projectID string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.purge(ctx, projectID, func(*dayRecord) bool { return true }); err != nil {
		return err
	}
	for _, m := range r.imports.List(projectID) {
		if err := r.imports.Delete(ctx, projectID, m.ID); err != nil {
			return err
		}
	}
	return nil
}

// Retain deletes what projects no longer keep. It works through all of them.
func (r *Registry) Retain(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var projects []string
	for _, m := range r.imports.List("") {
		if !slices.Contains(projects, m.ProjectID) {
			projects = append(projects, m.ProjectID)
		}
	}
	var errs []error
	for _, p := range projects {
		errs = append(errs, r.retain(ctx, p))
	}
	return errors.Join(errs...)
}

// retain deletes the days of a project whose events it no longer keeps.
func (r *Registry) retain(ctx context.Context, projectID string) error {
	oldest := r.oldest(projectID)
	if !slices.ContainsFunc(r.imports.List(projectID), func(m Import) bool { return m.From < oldest }) {
		return nil
	}
	lost := make(map[string]int)
	err := r.purge(ctx, projectID, func(d *dayRecord) bool {
		if d.Day >= oldest {
			return false
		}
		lost[d.Import]++
		return true
	})
	for id, n := range lost {
		if _, cerr := r.imports.Change(ctx, projectID, id, func(m *Import) error { m.From = max(m.From, oldest); return nil }); cerr != nil && err == nil && event.AsError(cerr).Code != event.CodeNotFound {
			err = cerr
		}
		if lerr := r.lose(ctx, projectID, id, n); err == nil {
			err = lerr
		}
	}
	return err
}

// purge deletes the days of a project that match.
func (r *Registry) purge(ctx context.Context, projectID string, match func(*dayRecord) bool) error {
	return r.each(ctx, func(key string, d *dayRecord) error {
		if !match(d) {
			return nil
		}
		if err := r.days.Purge(ctx, key); err != nil {
			return unavailable(err)
		}
		return nil
	}, projectID+".>")
}

// each reads the days whose keys match one of the patterns.
func (r *Registry) each(ctx context.Context, f func(key string, d *dayRecord) error, patterns ...string) error {
	w, err := r.days.WatchFiltered(ctx, patterns, jetstream.IgnoreDeletes())
	if err != nil {
		return unavailable(err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return unavailable(ctx.Err())
		case e, ok := <-w.Updates():
			if !ok {
				return unavailable(errors.New("the watch ended early"))
			}
			if e == nil {
				return nil
			}
			var d dayRecord
			if err := json.Unmarshal(e.Value(), &d); err != nil {
				return unavailable(fmt.Errorf("read %s: %w", e.Key(), err))
			}
			for i := range d.Lines {
				d.Lines[i].Day = d.Day
			}
			if err := f(e.Key(), &d); err != nil {
				return err
			}
		}
	}
}

// between reads the days of a provider in [from, to), dates of UTC days.
func (r *Registry) between(ctx context.Context, projectID, provider string, from, to time.Time) ([]dayRecord, error) {
	var patterns []string
	for m := time.Date(from.Year(), from.Month(), 1, 0, 0, 0, 0, time.UTC); m.Before(to); m = m.AddDate(0, 1, 0) {
		patterns = append(patterns, projectID+".*.*."+m.Format("2006-01")+".*")
	}
	first, end := dayOf(from), dayOf(to)
	var out []dayRecord
	err := r.each(ctx, func(_ string, d *dayRecord) error {
		if d.Feed.Provider() == provider && d.Day >= first && d.Day < end {
			out = append(out, *d)
		}
		return nil
	}, patterns...)
	slices.SortFunc(out, func(a, b dayRecord) int {
		return strings.Compare(a.Day+string(a.Feed)+a.Account, b.Day+string(b.Feed)+b.Account)
	})
	return out, err
}

func (r *Registry) note(ctx context.Context, action string, m Import) {
	detail := fmt.Sprintf("%s, %s to %s, %d lines", m.Feed, m.From, m.To, m.Lines)
	if m.Fetched {
		detail += ", fetched with the admin key"
	}
	if m.USD.Known {
		detail += ", " + m.USD.Value.String() + " USD"
	}
	r.o.Audit.Note(ctx, r.o.Logger, project.AuditEntry{Action: action, ProjectID: m.ProjectID, Target: m.ID, Detail: detail})
}

func unavailable(err error) error {
	return event.NewError(event.CodeUnavailable, "the imported bills cannot be read or written", "try again; if it persists, check the server log and the free space of the data folder", err)
}
