package app

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/dataset"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
)

// openChecks opens the settings of checks and the datasets, which a subcommand needs too.
func (a *App) openChecks(ctx context.Context) error {
	if a.Checks == nil {
		kv, err := a.journal.KeyValue(ctx, eval.ChecksBucket, 1)
		if err != nil {
			return err
		}
		spending, err := a.journal.KeyValue(ctx, eval.SpendingBucket, 1)
		if err != nil {
			return err
		}
		checks, err := eval.Open(ctx, kv, spending, eval.Options{LastGood: a.cfg.LastGood(eval.ChecksBucket), Audit: a.Registry.Audit, Logger: a.log.With("part", "eval")})
		if err != nil {
			return config.DataError(err)
		}
		a.Checks = checks
		a.watch(checks)
		a.onClose(closeData, "checks", func(context.Context) error { return checks.Close() })
	}
	var b dataset.Buckets
	for name, to := range map[string]*jetstream.KeyValue{dataset.SetsBucket: &b.Sets, dataset.RunsBucket: &b.Runs, dataset.ItemsBucket: &b.Items} {
		kv, err := a.journal.KeyValue(ctx, name, 1)
		if err != nil {
			return err
		}
		*to = kv
	}
	sets, err := dataset.Open(ctx, b, dataset.Options{LastGood: a.cfg.LastGood, Audit: a.Registry.Audit, Logger: a.log.With("part", "dataset")})
	if err != nil {
		return config.DataError(err)
	}
	a.Datasets = sets
	a.watch(sets)
	a.onClose(closeData, "datasets", func(context.Context) error { return a.Datasets.Close() })
	a.Runner = &eval.Runner{Budget: a.Checks.Budget(), Logger: a.log.With("part", "eval")}
	return nil
}

// openEvals starts the checks. It follows the gateway, which judges use.
func (a *App) openEvals(ctx context.Context) error {
	a.Runner.Caller = modelCaller{a}
	a.Runs = &dataset.Runner{Registry: a.Datasets, Prompts: a.Prompts, Checks: a.Checks, Evals: a.Runner, Caller: a.Runner.Caller, Append: a.events, Logger: a.log.With("part", "dataset")}
	a.onClose(closeCalls, "runs of datasets", a.Runs.Close)
	// No other process uses this data folder: running ones were left by a killed
	// process.
	if err := a.Datasets.Interrupted(ctx); err != nil {
		a.log.Error("dataset runs of a killed process could not be marked as interrupted; retrying", "err", err)
		a.supervise(closeSinks, supervise.Loop{Name: "runs left behind", Once: true, Run: a.Datasets.Interrupted})
	}
	a.run(closeCalls, "checks at work", func(ctx context.Context) error {
		m := &eval.Manager{Registry: a.Checks, Runner: a.Runner, Append: a.events, Queues: evalQueues{a.journal}, Logger: a.log.With("part", "eval"), Registerer: a.metrics}
		a.evals.Store(m)
		return m.Run(ctx)
	})
	return nil
}

// checkState is the state of a check in this process.
func (a *App) checkState(id string) eval.State {
	if m := a.evals.Load(); m != nil {
		return m.State(id)
	}
	return eval.State{}
}

// evalQueues offers the journal to the checks.
type evalQueues struct{ j *journal.Journal }

func (q evalQueues) Open(ctx context.Context, name, projectID string) (event.Queue, error) {
	// Checks read in small bites: they have time, and content can be large.
	return q.j.Queue(ctx, name, journal.QueueOptions{Project: projectID, From: journal.FromNow, FetchBytes: 4 << 20, MaxAckPending: 500})
}

func (q evalQueues) Drop(ctx context.Context, name string) error {
	return dropQueue(ctx, q.j, name)
}

func (q evalQueues) Names(ctx context.Context, prefix string) ([]string, error) {
	queues, err := q.j.Queues(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, x := range queues {
		if strings.HasPrefix(x.Name, prefix) {
			out = append(out, x.Name)
		}
	}
	return out, nil
}

// modelCaller calls models through this hedgerow's own gateway, and prices the
// answers as they are priced when they are recorded.
type modelCaller struct{ a *App }

func (c modelCaller) Call(ctx context.Context, r eval.Request) (*event.Event, error) {
	header := make(http.Header)
	set := func(name, value string) {
		if value != "" {
			header.Set(name, value)
		}
	}
	set("X-PostHog-Trace-Id", r.TraceID)
	set("X-Hedgerow-Surface", r.Surface)
	prompt := r.PromptName
	if r.PromptVersion != "" {
		prompt += "@" + r.PromptVersion
	}
	set("X-Hedgerow-Prompt", prompt)
	if len(r.Properties) > 0 {
		b, err := json.Marshal(r.Properties)
		if err != nil {
			return nil, err
		}
		set("X-PostHog-Properties", string(b))
	}
	own := gateway.InternalCall{ProjectID: r.ProjectID, UUID: r.UUID, Provider: r.Provider, Model: r.Model, Tools: r.Tools, Params: r.Params, MaxTokens: r.MaxTokens, Schema: r.Schema, Header: header}
	for _, m := range r.Messages {
		own.Messages = append(own.Messages, gateway.InternalMessage(m))
	}
	e, err := c.a.gateway.Call(ctx, own)
	if err != nil {
		return nil, err
	}
	c.a.Price(e)
	privacy.Derive(e) // the kind of answer, which checks use
	return e, nil
}
