package app

import (
	"context"

	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
)

// withdraw removes a variant of an experiment.
func (a *App) withdraw(ctx context.Context, actor string, d *experiment.Definition, variant, reason string) error {
	return a.Prompts.Withdraw(ctx, actor, prompt.Withdrawal{Project: d.Project, Prompt: d.Prompt, Flag: d.Flag, Variant: variant, Control: d.Variants[0].Key, Reason: reason})
}

// openExperiments opens the experiments and, in a server that delivers, the
// guard that checks those which run.
func (a *App) openExperiments(ctx context.Context) error {
	kv, err := a.journal.KeyValue(ctx, experiment.Bucket, 1)
	if err != nil {
		return err
	}
	log := a.log.With("part", "experiment")
	a.Experiments, err = experiment.Open(ctx, kv, experiment.Options{LastGood: a.cfg.LastGood(experiment.Bucket), Audit: a.Registry.Audit, Ask: a.Query, Logger: log})
	if err != nil {
		return config.DataError(err)
	}
	a.onClose(closeData, "experiments", func(context.Context) error { return a.Experiments.Close() })
	a.Reports = &experiment.ReportCache{Ask: a.Query}
	client := posthog.NewHTTPClient(posthog.ClientConfig{}, a.cfg.AllowInsecurePostHog)
	a.onClose(closeLast, "alerts", func(context.Context) error { client.CloseIdleConnections(); return nil })
	a.Alerts = &experiment.Sender{Client: client, Project: func(id string) (project.Project, bool) { return a.Registry.Snapshot().Project(id) }, URL: a.cfg.PublicURL}
	if a.Alerts.Mailer, err = a.cfg.Mail(); err != nil {
		return err
	}
	if a.listener == nil {
		return nil
	}
	guard := &experiment.Guard{
		Registry: a.Experiments, Ask: a.Query, Stop: a.withdraw, Ways: a.Alerts.Ways, Logger: log,
		Link: func(d experiment.Definition) string {
			return a.cfg.PublicURL + "/p/" + d.Project + "/experiments/" + d.ID
		},
	}
	a.runSink("guardrails", guard.Run)
	return nil
}
