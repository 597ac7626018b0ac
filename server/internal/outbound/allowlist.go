package outbound

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

const (
	takeOverDays  = 30
	takeOverRetry = 30 * time.Second
	takeOverWait  = time.Minute // for which deliveries to a connection from before wait for its names
)

// AllowListUpgrade adds to each connection from before the allowlist the
// names that it continues to send: those sent before that are not content.
type AllowListUpgrade struct {
	registry *project.Registry
	log      *slog.Logger
	tried    chan struct{} // closed when every connection was tried once
	once     sync.Once     // closes tried
}

// NewAllowListUpgrade returns an upgrade that is yet to run.
func NewAllowListUpgrade(registry *project.Registry, log *slog.Logger) *AllowListUpgrade {
	return &AllowListUpgrade{registry: registry, log: log, tried: make(chan struct{})}
}

// Run does the upgrade from the store's data. It retries failures, because the
// store may be recovering. It returns when all is done or ctx ends.
func (u *AllowListUpgrade) Run(ctx context.Context, reader *query.Reader) error {
	first := func() { u.once.Do(func() { close(u.tried) }) }
	defer first()
	for wait := takeOverRetry; ; wait = min(2*wait, time.Hour) {
		failed := false
		for _, c := range u.registry.Snapshot().AllConnections() {
			if c.Rules >= project.RulesAllowList {
				continue
			}
			if err := u.takeOver(ctx, reader, c); err != nil && ctx.Err() == nil {
				failed = true
				u.log.Warn("property names sent before the upgrade could not be imported; properties outside PostHog's list are withheld until then",
					"connection", c.Name, "retry", wait, "err", err)
			}
		}
		first()
		if !failed {
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

func (u *AllowListUpgrade) takeOver(ctx context.Context, reader *query.Reader, c project.Connection) error {
	var t privacy.LegacyNames
	if err := reader.EachProperties(ctx, c.ProjectID, time.Now().AddDate(0, 0, -takeOverDays), t.Add); err != nil {
		return err
	}
	properties, attributes := t.Names()
	did, err := u.registry.TakeOverNames(ctx, c.ProjectID, c.ID, properties, attributes)
	if err != nil {
		return err
	}
	if did {
		u.log.Info("events to PostHog now use an allow-list; names sent before that are not content are still sent, until they are allowed or blocked on the connection's page",
			"connection", c.Name, "properties", len(properties), "attributes", len(attributes))
	}
	return nil
}

// Wait waits until a connection from before has its names, for a while.
func (u *AllowListUpgrade) Wait(ctx context.Context, c project.Connection) {
	if c.Rules >= project.RulesAllowList {
		return
	}
	t := time.NewTimer(takeOverWait)
	defer t.Stop()
	select {
	case <-u.tried:
	case <-t.C:
	case <-ctx.Done():
	}
}
