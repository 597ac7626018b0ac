package app

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/atomicfile"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/outbound"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
)

// journalKeep is how long the journal keeps what every sink has, within a quarter
// of its bound.
const journalKeep = 24 * time.Hour

func (a *App) openJournal(ctx context.Context) error {
	if err := a.openFolder(ctx); err != nil { // again: its disk may have been full
		return err
	}
	c := JournalConfig(a.cfg)
	c.Logger, c.Registerer = a.log.With("part", "journal"), a.metrics
	j, err := journal.Open(ctx, c)
	if err != nil {
		return config.DataError(err)
	}
	a.journal = j
	a.taken.Store(j)
	a.watch(j)
	a.onClose(closeData, "journal", j.Close)
	return nil
}

// watch registers a part that reports its health.
func (a *App) watch(part any) {
	if h, ok := part.(interface{ Health() health.Report }); ok {
		a.reports.add(h.Health)
	}
}

func (a *App) openSettings(ctx context.Context) error {
	// Temporary files of a killed process contain encrypted keys too.
	if err := errors.Join(atomicfile.Clean(a.cfg.Path("settings")), project.CleanSecretKey(a.cfg.Path("secret.key"))); err != nil {
		a.log.Warn("incomplete files of an earlier process cannot be removed", "err", err)
	}
	key, err := project.LoadSecretKey(a.cfg.SecretKey, a.cfg.Path("secret.key"))
	if errors.Is(err, syscall.ENOSPC) {
		return event.NewError(event.CodeUnavailable, "the disk of the data folder "+a.cfg.Data+" is full: the first settings cannot be written", "free disk space there; hedgerow continues automatically within seconds", err)
	}
	if err != nil {
		return config.DataError(err)
	}
	kv, err := a.journal.KeyValue(ctx, project.Bucket, 1)
	if err != nil {
		return err
	}
	a.Registry, err = project.Open(ctx, kv, project.Options{LastGood: a.cfg.LastGood(project.Bucket), SecretKey: key, AllowInsecureHosts: a.cfg.AllowInsecurePostHog, AllowHosts: a.cfg.AllowedHosts(), Enabled: a.beginDelivery, Logger: a.log.With("part", "project")})
	if err != nil {
		return config.DataError(err)
	}
	a.settings.Store(a.Registry)
	a.watch(a.Registry)
	a.onClose(closeData, "settings", func(context.Context) error { return a.Registry.Close() })
	return nil
}

// snapshot is the settings as they are now; none of them while they are not open.
func (a *App) snapshot() *project.Snapshot {
	if r := a.settings.Load(); r != nil {
		return r.Snapshot()
	}
	return new(project.Snapshot)
}

// projectsKnown reports whether there is a project whose events can be
// accepted.
func (a *App) projectsKnown() bool {
	return a.firstStart.Load() != nil || slices.ContainsFunc(a.snapshot().Projects(), func(p project.Project) bool {
		return p.Revision != 0 // otherwise it is provisional until the first one is created
	})
}

func (a *App) openPrompts(ctx context.Context) error {
	kv, err := a.journal.KeyValue(ctx, prompt.Bucket, 1)
	if err != nil {
		return err
	}
	if a.flags == nil { // a server has made them already
		a.openFlags()
	}
	a.Prompts, err = prompt.Open(ctx, kv, prompt.Options{LastGood: a.cfg.LastGood(prompt.Bucket), Audit: a.Registry.Audit, Flags: a.flags, Logger: a.log.With("part", "prompt")})
	if err != nil {
		return config.DataError(err)
	}
	a.library.Store(a.Prompts)
	a.watch(a.Prompts)
	a.onClose(closeData, "prompts", func(context.Context) error { return a.Prompts.Close() })
	return nil
}

// openFirstProject creates the first project, its token and its API key, if
// there are none, and the connection from the environment. If the journal is
// unavailable, it does so as soon as possible.
func (a *App) openFirstProject(ctx context.Context) error {
	try, cancel := context.WithTimeout(ctx, stepDeadline/3)
	defer cancel()
	err := a.makeFirstProject(try)
	if exit, _ := config.DataError(err).(*config.ExitError); err == nil || exit != nil || a.listener == nil {
		return config.DataError(err)
	}
	a.log.Error("the settings cannot be written: calls are still forwarded, and missing settings are created once writing works", "err", err)
	a.supervise(closeSinks, supervise.Loop{Name: "first start", Once: true, Run: func(ctx context.Context) error {
		try, cancel := context.WithTimeout(ctx, stepDeadline)
		defer cancel()
		return a.makeFirstProject(try)
	}})
	return nil
}

func (a *App) makeFirstProject(ctx context.Context) error {
	first, err := a.Registry.Bootstrap(ctx)
	if err != nil {
		return err
	}
	if a.listener != nil { // only the server's environment decides on its connection
		_, _, err = a.Registry.SetEnvConnection(ctx, project.DefaultID, project.EnvConnection{
			ProjectKey: a.cfg.PostHogAPIKey, Host: a.cfg.PostHogHost, PersonalKey: a.cfg.PostHogPersonalAPIKey})
		if e := event.AsError(err); e != nil && e.Code != event.CodeUnavailable {
			err = config.Exit(config.ExitConfig, event.NewError(e.Code, "POSTHOG_API_KEY, POSTHOG_HOST or POSTHOG_PERSONAL_API_KEY cannot be used: "+e.Message, e.Hint, e.Err))
		}
	}
	// Even if the connection fails, the API key must be shown, because it
	// cannot be shown again.
	if first.First || err == nil {
		a.firstProject(first)
	}
	return err
}

// firstProject records that the first project exists. It keeps the
// information of a first start.
func (a *App) firstProject(first project.FirstStart) {
	if a.firstStart.CompareAndSwap(nil, &first) {
		close(a.known)
	}
}

func (a *App) openStore(ctx context.Context) error {
	if a.Store == nil {
		memory, err := a.cfg.StoreMemoryBytes()
		if err != nil {
			return err
		}
		c := store.Config{Path: a.cfg.Path("hedgerow.duckdb"), Deletions: a.deletions, MemoryBytes: memory, Logger: a.log.With("part", "store"), Registerer: a.metrics}
		c.Opening = func(s *store.DuckDB) { // /readyz shows how far a migration is
			if a.opening.Swap(s) == nil {
				a.reports.add(func() health.Report { return a.opening.Load().Health() })
			}
		}
		if a.listener != nil && a.cfg.Has(config.RoleSinks) {
			c.Refill = func(ctx context.Context, since time.Time) (time.Time, error) {
				return a.journal.Rewind(ctx, storeQueue, since)
			}
		}
		s, err := store.OpenDuckDB(ctx, c)
		if err != nil {
			return config.DataError(err)
		}
		a.Store = s
		a.onClose(closeData, "store", func(context.Context) error { return a.Store.Close() })
	}
	var err error
	if a.Query, err = query.New(a.Store, nil); err != nil {
		return err
	}
	a.outcomes.Open(a.Query)
	a.outcomes.Follow(a.Store)
	a.gaps = outbound.NewGaps(outbound.GapsConfig{Journal: a.journal, Query: a.Query, SentAs: a.Store.SentAs, Full: a.journalFill, Logger: a.log})
	return nil
}

func (a *App) retention(projectID string) store.Retention {
	day := 24 * time.Hour
	p, ok := a.snapshot().Project(projectID)
	if !ok {
		return store.Retention{Content: store.DefaultContentRetention}
	}
	return store.Retention{Content: time.Duration(p.Settings.ContentDays) * day, Metrics: time.Duration(p.Settings.MetricsDays) * day}
}

// StoragePolicy returns the privacy policy of each event: in memory, no I/O.
func (a *App) StoragePolicy(projectID string) privacy.StoragePolicy {
	p, ok := a.snapshot().Project(projectID)
	if !ok {
		return privacy.StoragePolicy{KeepContent: true}
	}
	return privacy.StoragePolicy{KeepContent: p.Settings.KeepContent, ScrubEmails: p.Settings.ScrubEmails}
}

// surface is a project's default surface.
func (a *App) surface(projectID string) string {
	p, _ := a.snapshot().Project(projectID)
	return p.Settings.Surface
}

// JournalConfig returns the journal's configuration from the settings.
func JournalConfig(c *config.Config) journal.Config {
	maxBytes := config.MustSize(c.JournalMaxBytes)
	return journal.Config{
		Dir: c.Path("journal"), NATSURL: c.NATSURL, MaxBytes: maxBytes,
		// Source for refilling a damaged or deleted store. It uses this much disk,
		// and is deleted first when the journal is nearly full.
		Keep: journalKeep, KeepBytes: maxBytes / 4,
		Essential:  []string{storeQueue},
		Erasing:    []string{project.Bucket},
		SyncAlways: c.JournalSync == "always", SyncInterval: c.JournalSyncInterval,
	}
}
