package mcp

import (
	"context"
	"net/url"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

type experimentVariant struct {
	Variant  string   `json:"arm"`
	Users    int64    `json:"users" jsonschema:"who saw it first"`
	Mixed    int64    `json:"mixed_users,omitempty" jsonschema:"of them, who saw another variant later"`
	Excluded int64    `json:"excluded_users,omitempty" jsonschema:"bots and others whom the definition excludes"`
	Versions []string `json:"prompt_versions,omitempty" jsonschema:"that really ran"`
	Value    string   `json:"value" jsonschema:"the primary metric with its interval"`
	Differs  string   `json:"difference,omitempty" jsonschema:"of a treatment to the control, with its interval"`
}

type experimentRow struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Flag      string     `json:"flag,omitempty"`
	Prompt    string     `json:"prompt,omitempty"`
	State     string     `json:"state" jsonschema:"draft, collecting, winner, guardrail_broken or inconclusive"`
	Winner    string     `json:"winner,omitempty"`
	Summary   string     `json:"summary" jsonschema:"result and reason"`
	Running   bool       `json:"running"`
	StartedAt *time.Time `json:"started_at,omitempty"`
	StoppedAt *time.Time `json:"stopped_at,omitempty"`
	URL       string     `json:"url,omitempty"`
}

type experimentsOut struct {
	Experiments []experimentRow `json:"experiments" jsonschema:"newest first"`
}

type experimentIn struct {
	ID string `json:"id" jsonschema:"id of the experiment (x_…), of list_experiments"`
}

type experimentOut struct {
	Experiment experimentRow       `json:"experiment"`
	Record     definitionRecord    `json:"record"`
	Why        []string            `json:"why,omitempty" jsonschema:"further reasons, and what is still needed"`
	Metric     string              `json:"metric" jsonschema:"primary metric"`
	Variants   []experimentVariant `json:"arms"`
	Guardrails []string            `json:"guardrails,omitempty" jsonschema:"the state of each"`
	Ratio      string              `json:"sample_ratio" jsonschema:"sample ratio check"`
	Mixing     string              `json:"mixed_ratio" jsonschema:"whether seeing another variant depends on the first"`
	Breaches   []string            `json:"breaches,omitempty" jsonschema:"guardrails that broke while it ran"`
}

type definitionRecord struct {
	Sealed        bool     `json:"sealed" jsonschema:"the definition was sealed when the experiment started"`
	Hash          string   `json:"sha256,omitempty" jsonschema:"of the sealed definition"`
	MadeAfterData bool     `json:"made_after_data" jsonschema:"it counts data from before it was made: its error is not what it states"`
	Notes         []string `json:"notes,omitempty" jsonschema:"what to tell before the result"`
	Changes       []string `json:"changes,omitempty" jsonschema:"of the definition since the start"`
}

type createExperimentIn struct {
	experiment.Spec
	Start bool `json:"start,omitempty" jsonschema:"start now; default: create a draft"`
}

type stopExperimentIn struct {
	experimentIn
	Reason      string `json:"reason,omitempty" jsonschema:"kept with the experiment"`
	StopRollout bool   `json:"stop_rollout,omitempty" jsonschema:"also stop the rollout: all users get the control"`
}

func (s *Server) addExperimentTools() {
	metrics := func(p map[string]*jsonschema.Schema) {
		for _, x := range []*jsonschema.Schema{p["primary"], p["guardrails"].Items} {
			enum(x.Properties["measure"], query.ExperimentMeasures()...)
			enum(x.Properties["as"], query.AsRate, query.AsMean, query.AsUsers, query.AsCount)
			enum(x.Properties["better"], experiment.Up, experiment.Down)
		}
		enum(p["exclude"].Properties["bots"], query.BotsExcluded, query.BotsCount)
		enum(p["exclude"].Properties["properties"].Items.Properties["operator"], query.Exact, query.Contains, query.IsSet)
	}
	add(s, spec{name: "list_experiments", title: "List experiments", description: "The experiments of the project and their results.", need: read}, s.listExperiments)
	add(s, spec{name: "get_experiment", title: "Read an experiment", description: "Results of an experiment and the reasons: variants, differences with always-valid confidence intervals, guardrails, users still needed.", need: read}, s.getExperiment)
	add(s, spec{name: "create_experiment", title: "Create an experiment", description: "Compares the variants of a feature flag, or versions of a prompt, by user outcomes. The first variant is the control. Variants, primary metric, excluded users and plan cannot be changed once it has started.", need: write, repeats: true, input: metrics}, s.createExperiment)
	add(s, spec{name: "start_experiment", title: "Start an experiment", description: "Starts a draft: events from now on count.", need: write}, s.startExperiment)
	add(s, spec{name: "stop_experiment", title: "Stop an experiment", description: "Ends an experiment: events from now on do not count. With stop_rollout all users get the control: ask the user first.", need: write, destructive: true}, s.stopExperiment)
}

func (s *Server) experimentRow(ctx context.Context, d experiment.Definition) (experimentRow, *experiment.Report, error) {
	r, err := s.c.Reports.Report(ctx, d)
	if err != nil {
		return experimentRow{}, nil, err
	}
	row := experimentRow{ID: d.ID, Name: d.Name, Flag: d.Flag, Prompt: d.Prompt, State: string(r.State), Winner: r.Winner, Summary: r.Summary, Running: r.Running}
	if !d.Started.IsZero() {
		row.StartedAt = &d.Started
	}
	if !d.Stopped.IsZero() {
		row.StoppedAt = &d.Stopped
	}
	if s.c.PublicURL != "" {
		row.URL = s.c.PublicURL + "/p/" + url.PathEscape(d.Project) + "/experiments/" + d.ID
	}
	return row, r, nil
}

func (s *Server) listExperiments(ctx context.Context, who caller, _ noArguments) (experimentsOut, error) {
	out := experimentsOut{Experiments: []experimentRow{}}
	for _, d := range s.c.Experiments.Experiments(who.projectID) {
		row, _, err := s.experimentRow(ctx, d)
		if err != nil {
			return out, err
		}
		out.Experiments = append(out.Experiments, row)
	}
	return out, nil
}

func (s *Server) getExperiment(ctx context.Context, who caller, in experimentIn) (experimentOut, error) {
	d, ok := s.c.Experiments.Experiment(who.projectID, in.ID)
	if !ok {
		return experimentOut{}, event.NewError(event.CodeNotFound, "experiment not found", "list_experiments shows which exist", nil)
	}
	return s.experimentOut(ctx, d)
}

func (s *Server) experimentOut(ctx context.Context, d experiment.Definition) (out experimentOut, err error) {
	row, r, err := s.experimentRow(ctx, d)
	if err != nil {
		return out, err
	}
	out = experimentOut{Experiment: row, Why: r.Why, Metric: r.Primary.Label, Ratio: r.SampleRatio.Words, Mixing: r.Mixing.Words}
	out.Record = definitionRecord{Sealed: r.Record.Sealed, Hash: r.Record.Hash, MadeAfterData: r.Record.MadeAfterData, Notes: r.Record.Notes}
	for _, v := range r.Record.Versions {
		for _, c := range v.Changes {
			out.Record.Changes = append(out.Record.Changes, v.At.Format(time.RFC3339)+" "+v.By+": "+c.Words())
		}
	}
	for i, a := range r.Variants {
		variant := experimentVariant{Variant: a.Key, Users: a.Users, Mixed: a.Mixed, Excluded: a.Excluded, Versions: a.Versions, Value: d.Primary.Format(r.Primary.Values[i].Interval)}
		if i > 0 {
			variant.Differs = d.Primary.FormatDifference(r.Primary.Differences[i-1].Interval)
		}
		out.Variants = append(out.Variants, variant)
	}
	for _, g := range r.Guardrails {
		for _, c := range g.Checks {
			out.Guardrails = append(out.Guardrails, c.Status+": "+c.Words)
		}
	}
	for _, b := range d.Breaches {
		out.Breaches = append(out.Breaches, b.Words+" The rollout's stop: "+b.Rollout.State+".")
	}
	return out, nil
}

func (s *Server) createExperiment(ctx context.Context, who caller, in createExperimentIn) (experimentOut, error) {
	d := experiment.Definition{Project: who.projectID, Spec: in.Spec}
	if in.Start {
		d.Started = s.c.Reports.Time()
	}
	d, err := s.c.Experiments.Create(ctx, who.actor, d)
	if err != nil {
		return experimentOut{}, err
	}
	return s.experimentOut(ctx, d)
}

func (s *Server) startExperiment(ctx context.Context, who caller, in experimentIn) (experimentOut, error) {
	d, err := s.c.Experiments.Start(ctx, who.actor, who.projectID, in.ID)
	if err != nil {
		return experimentOut{}, err
	}
	return s.experimentOut(ctx, d)
}

func (s *Server) stopExperiment(ctx context.Context, who caller, in stopExperimentIn) (experimentOut, error) {
	d, err := s.c.Experiments.StopWith(ctx, who.actor, who.projectID, in.ID, in.Reason, in.StopRollout, s.c.StopRollout)
	if err != nil {
		return experimentOut{}, err
	}
	return s.experimentOut(ctx, d)
}
