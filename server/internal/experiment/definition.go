package experiment

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// Definition is what is compared, by which metric, and which guardrails must
// hold. While an experiment runs, what its intervals depend on cannot be
// changed.
type Definition struct {
	ID      string `json:"id"` // x_…
	Project string `json:"-"`
	Spec

	Created    time.Time `json:"created_at"`
	Updated    time.Time `json:"updated_at"`
	Started    time.Time `json:"started_at,omitzero"` // events from here on count; zero: a draft
	Stopped    time.Time `json:"stopped_at,omitzero"` // events before it count
	StopReason string    `json:"stop_reason,omitempty"`

	Versions []Version `json:"versions,omitempty"` // of what users set, since the start; of an experiment that an older hedgerow started, only changes since
	Breaches []Breach  `json:"breaches,omitempty"` // guardrails that broke, each once
}

// Spec is the part of a definition that users set.
type Spec struct {
	Name        string `json:"name" jsonschema:"unique within the project"`
	Description string `json:"description,omitempty" jsonschema:"what is expected, and why"`

	// Flag is the key of the feature flag whose variants are compared. "" compares
	// versions of Prompt. With both, only calls of the prompt count as
	// exposures; Prompt is also what a broken guardrail stops the rollout of.
	Flag     string    `json:"flag,omitempty" jsonschema:"key of the feature flag whose variants are compared; left out, versions of the prompt are compared"`
	Prompt   string    `json:"prompt,omitempty" jsonschema:"name of the prompt; needed without a flag, and to stop its rollout"`
	Variants []Variant `json:"arms" jsonschema:"at least two; the first is the control"`

	Primary    Metric          `json:"primary" jsonschema:"primary metric"`
	Guardrails []Guardrail     `json:"guardrails,omitempty" jsonschema:"metrics that must not get worse"`
	Segments   []query.GroupBy `json:"segments,omitempty" jsonschema:"breakdowns of the results: model, provider, surface, environment, task_type, operation, prompt, input_length or property:NAME"`

	Exclude query.Exclusion `json:"exclude,omitzero" jsonschema:"users who do not count; left out, those whom an event calls a bot"`

	Detect   float64 `json:"detect,omitempty" jsonschema:"smallest difference worth finding, in the primary metric's unit (0.05 is 5 points of a rate); left out, 5 points or a tenth of the control"`
	Planned  int     `json:"planned_users,omitempty" jsonschema:"planned users over all variants, where confidence intervals are narrowest; 2000 if left out"`
	MinUsers int     `json:"min_users,omitempty" jsonschema:"minimum users per variant before any result; 50 if left out"`
	Alpha    float64 `json:"alpha,omitempty" jsonschema:"share of experiments without an effect that find one, and of those without harm in which any guardrail breaks; 0.05 if left out"`

	Design string `json:"design,omitempty" jsonschema:"anytime: the result may be looked at every day (default); planned_looks: it is known only at a few dates, and needs fewer users"`
	Days   int    `json:"days,omitempty" jsonschema:"of planned_looks: how many days the experiment takes; 28 if left out"`
	Looks  int    `json:"looks,omitempty" jsonschema:"of planned_looks: at how many dates the result is looked at, the last at the end; 4 if left out, at most 20 and one a day"`
	CUPED  string `json:"cuped,omitempty" jsonschema:"auto: what the users' own calls before the experiment explain is taken from differences (default); off"`

	StopOnBreach bool `json:"stop_on_guardrail,omitempty" jsonschema:"a broken guardrail stops the prompt's rollout and the experiment"`
}

// Variant is a variant of the flag, or a version of the prompt.
type Variant struct {
	Key   string  `json:"key" jsonschema:"the flag's variant, or the prompt's version (number or pv_…)"`
	Share float64 `json:"share,omitempty" jsonschema:"of the users, in any unit: 95 and 5, or 1 and 1; 1 if left out"`
}

// Metric is what is measured, and whether higher or lower is better.
type Metric struct {
	query.Metric
	Better string `json:"better,omitempty" jsonschema:"up or down; left out, what the measure suggests"`
}

// Directions of [Metric.Better].
const (
	Up   = "up"
	Down = "down"
)

// Guardrail is a limit that no treatment may exceed.
type Guardrail struct {
	Metric
	// Limit is in the metric's unit: a share, milliseconds, dollars. Where lower
	// is better the figure must not be above it, else not below it.
	Limit float64 `json:"limit" jsonschema:"in the metric's unit: a share (0.02 is 2 points), milliseconds, dollars"`
	// Relative compares treatment − control with Limit (0.02: at most 2 points
	// more); else the treatment itself is compared (4000: under 4 s).
	Relative bool `json:"relative,omitempty" jsonschema:"the limit is for treatment − control; else for the treatment itself"`
}

// Breach is a broken guardrail and the actions taken.
type Breach struct {
	Key     string    `json:"key"`     // of the guardrail and the variant: the same for as long as the experiment is there
	Variant string    `json:"arm"`     // that broke it
	Words   string    `json:"why"`     // what was measured
	At      time.Time `json:"at"`      // when it was noticed
	Rollout Action    `json:"rollout"` // stopping it
	Webhook Action    `json:"webhook"` // telling the project's webhook …
	Email   Action    `json:"email"`   // … and its addresses
}

// Action is an action on a broken guardrail, taken once.
type Action struct {
	State    string    `json:"state"` // one of those below
	Attempts int       `json:"attempts,omitempty"`
	Error    string    `json:"error,omitempty"` // of the last attempt
	Next     time.Time `json:"next,omitzero"`   // no other attempt before
	Done     time.Time `json:"done_at,omitzero"`
}

// States of an [Action].
const (
	ActionNone    = "none"    // not asked for, or not set up
	ActionPending = "pending" // being tried
	ActionDone    = "done"
	ActionFailed  = "failed" // given up
)

// open reports whether an action is pending.
func (b Breach) open() bool {
	return b.Rollout.State == ActionPending || b.Webhook.State == ActionPending || b.Email.State == ActionPending
}

// Designs of [Spec.Design].
const (
	Anytime      = "anytime"
	PlannedLooks = "planned_looks"
)

// Values of [Spec.CUPED].
const (
	CUPEDAuto = "auto"
	CUPEDOff  = "off"
)

// Defaults of planned looks, and their bounds.
const (
	defaultDays  = 28
	defaultLooks = 4
	maxDays      = 365
	maxLooks     = 20
)

// pastDays is how long before the start the users' own past is read.
const pastDays = 28

// look is the date of the k-th planned look, a whole number of days after the start.
func (d *Definition) look(k int) time.Time {
	return d.Started.AddDate(0, 0, (d.Days*k+d.Looks-1)/d.Looks)
}

// DefaultPlanned is [Definition.Planned] if none is given.
const DefaultPlanned = 2000

// Bounds of a [Definition].
const (
	maxVariants   = 10
	maxGuardrails = 10
	maxSegments   = 10
	minMinUsers   = 10
	maxText       = 2000
)

// Running reports whether the experiment has begun and has not been stopped.
func (d *Definition) Running() bool { return !d.Started.IsZero() && d.Stopped.IsZero() }

func (m *Metric) normalise() error {
	if m.Event != "" && m.As == "" {
		m.As = query.AsRate
	}
	if m.Better == "" {
		m.Better = Down
		if m.Event != "" || m.Measure.Info().Better == query.Higher {
			m.Better = Up
		}
	}
	if m.Better != Up && m.Better != Down {
		return event.Invalid("a metric has no direction", "set better to up or down")
	}
	return m.Check()
}

func clean(noun, s string, limit int) (string, error) {
	s = strings.TrimSpace(s)
	switch {
	case utf8.RuneCountInString(s) > limit:
		return "", event.Invalid(fmt.Sprintf("the %s is longer than %d characters", noun, limit), "shorten it")
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' }):
		return "", event.Invalid("the "+noun+" contains characters that cannot be displayed", "send it as plain text")
	}
	return s, nil
}

// normalise fills in defaults and reports what is wrong with a definition.
func (d *Spec) normalise() (err error) {
	for _, f := range []struct {
		noun  string
		s     *string
		limit int
	}{{"name", &d.Name, 100}, {"description", &d.Description, maxText}, {"flag", &d.Flag, 200}, {"prompt", &d.Prompt, 200}} {
		if *f.s, err = clean(f.noun, *f.s, f.limit); err != nil {
			return err
		}
	}
	if d.Name == "" {
		return event.Invalid("the experiment has no name", "give it one")
	}
	if d.Flag == "" && d.Prompt == "" {
		return event.Invalid("the experiment has neither a flag nor a prompt", "its variants are those of a feature flag, or versions of a prompt")
	}
	if len(d.Variants) < 2 || len(d.Variants) > maxVariants {
		return event.Invalid(fmt.Sprintf("an experiment has 2 to %d variants", maxVariants), "list the control first, then each treatment")
	}
	seen := make(map[string]bool)
	for i := range d.Variants {
		a := &d.Variants[i]
		if a.Key, err = clean("variant", a.Key, 200); err != nil {
			return err
		}
		if a.Key == "" || seen[a.Key] {
			return event.Invalid("a variant has no key or a duplicate key", "use variants of the flag or versions of the prompt, each once")
		}
		seen[a.Key] = true
		if a.Share == 0 {
			a.Share = 1
		}
		if a.Share < 0 || !finite(a.Share) {
			return event.Invalid("a variant's share is not above 0", "leave out variants that get no users")
		}
	}
	if err := d.Primary.normalise(); err != nil {
		return err
	}
	if q := d.Primary.Quantile(); q > 0 {
		return event.Invalid("a quantile cannot be the primary metric", "use it as a guardrail, and a rate or a mean as the primary metric")
	}
	if len(d.Guardrails) > maxGuardrails {
		return event.Invalid(fmt.Sprintf("an experiment has at most %d guardrails", maxGuardrails), "keep the ones that would make you stop")
	}
	for i := range d.Guardrails {
		g := &d.Guardrails[i]
		if err := g.normalise(); err != nil {
			return err
		}
		if !finite(g.Limit) {
			return event.Invalid("a guardrail's limit is not a number", "give it in the metric's unit")
		}
		if g.IsRate() && math.Abs(g.Limit) > 1 {
			return event.Invalid("a guardrail's limit is outside the range of a rate", "2 points are 0.02")
		}
		for _, other := range d.Guardrails[:i] {
			if other.key() == g.key() {
				return event.Invalid("a guardrail is listed twice", "keep the stricter of the two")
			}
		}
	}
	if len(d.Segments) > maxSegments {
		return event.Invalid(fmt.Sprintf("an experiment has at most %d breakdowns", maxSegments), "choose fewer")
	}
	for _, s := range d.Segments {
		if !validSegment(s) {
			return errSegment()
		}
	}
	if err := d.Exclude.Check(); err != nil {
		return err
	}
	if len(d.Exclude.Users) == 0 {
		d.Exclude.Users = nil
	}
	if len(d.Exclude.Properties) == 0 {
		d.Exclude.Properties = nil
	}
	d.Planned, d.MinUsers, d.Alpha = cmp.Or(d.Planned, DefaultPlanned), cmp.Or(d.MinUsers, DefaultMinUsers), cmp.Or(d.Alpha, DefaultAlpha)
	switch {
	case d.Planned < 20 || d.Planned > 1e9:
		return event.Invalid("the planned number of users must be between 20 and a billion", "")
	case d.MinUsers < minMinUsers:
		return event.Invalid(fmt.Sprintf("each variant needs at least %d users before any result", minMinUsers), "leave out min_users to use the default")
	case !(d.Alpha > 0 && d.Alpha <= 0.2):
		return event.Invalid("alpha must be greater than 0 and at most 0.2", "0.05 is usual")
	case d.Detect < 0 || !finite(d.Detect) || d.Primary.IsRate() && d.Detect >= 1:
		return event.Invalid("the minimum detectable effect is outside the range of the metric", "5 points of a rate are 0.05")
	case d.StopOnBreach && d.Prompt == "":
		return event.Invalid("stop_on_guardrail needs a prompt whose rollout it can stop", "set prompt, or turn stop_on_guardrail off")
	}
	if err := d.normaliseDesign(); err != nil {
		return err
	}
	d.Guardrails, d.Segments = slices.Clip(d.Guardrails), slices.Clip(d.Segments)
	return nil
}

// normaliseDesign fills in the defaults of the design.
func (d *Spec) normaliseDesign() error {
	d.Design, d.CUPED = cmp.Or(d.Design, Anytime), cmp.Or(d.CUPED, CUPEDAuto)
	switch {
	case d.Design != Anytime && d.Design != PlannedLooks:
		return event.Invalid("unknown design", "use anytime or planned_looks")
	case d.CUPED != CUPEDAuto && d.CUPED != CUPEDOff:
		return event.Invalid("unknown value of cuped", "use auto or off")
	case d.Design == Anytime && (d.Days != 0 || d.Looks != 0):
		return event.Invalid("days and looks are set, but the design has no planned looks", "set design to planned_looks, or leave them out")
	case d.Design == Anytime:
		return nil
	}
	d.Days = cmp.Or(d.Days, defaultDays)
	d.Looks = cmp.Or(d.Looks, min(defaultLooks, d.Days))
	if d.Days < 1 || d.Days > maxDays {
		return event.Invalid(fmt.Sprintf("an experiment with planned looks takes 1 to %d days", maxDays), "28 days see each weekday four times")
	}
	if d.Looks < 1 || d.Looks > min(maxLooks, d.Days) {
		return event.Invalid(fmt.Sprintf("an experiment has 1 to %d planned looks, and no more than days", maxLooks), "4 are usual")
	}
	return nil
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

// validSegment reports whether a breakdown is one of users.
func validSegment(g query.GroupBy) bool {
	if name, ok := strings.CutPrefix(string(g), "property:"); ok {
		return name != "" && len(name) <= 200
	}
	return slices.Contains(segments, g)
}

// segments are the breakdowns that are columns; property:NAME is one more kind.
var segments = []query.GroupBy{query.ByModel, query.ByProvider, query.BySurface, query.ByEnvironment, query.ByTaskType, query.ByOperation, query.ByPrompt, query.ByInputLength}

// key distinguishes guardrails.
func (g *Guardrail) key() string {
	rel := "value"
	if g.Relative {
		rel = "difference"
	}
	return strings.Join([]string{string(g.Measure), g.Eval, g.Event, g.Property, g.Value, g.As, rel}, "/")
}

// keepUnset leaves out the defaults of fields that did not exist when a started experiment was
// defined: what was sealed did not have them, so filling them in is no change.
func (d *Spec) keepUnset(before *Spec) {
	if before.Design == "" && d.Design == Anytime {
		d.Design = ""
	}
	if before.CUPED == "" && d.CUPED == CUPEDAuto {
		d.CUPED = ""
	}
}

// frozen returns an error for a change that a running experiment does not allow,
// because its intervals depend on it.
func (d *Spec) frozen(next *Spec) error {
	same := d.Flag == next.Flag && d.Prompt == next.Prompt && slices.Equal(d.Variants, next.Variants) && d.Primary == next.Primary && reflect.DeepEqual(d.Exclude, next.Exclude) &&
		d.Detect == next.Detect && d.Planned == next.Planned && d.MinUsers == next.MinUsers && d.Alpha == next.Alpha &&
		d.Design == next.Design && d.Days == next.Days && d.Looks == next.Looks && d.CUPED == next.CUPED
	if !same {
		return event.NewError(event.CodeConflict, "variants, primary metric, excluded users and plan of a started experiment cannot change",
			"changing them after seeing data would invalidate its confidence intervals: stop it and create another", nil)
	}
	return nil
}

// question is the query: the primary metric first, then the guardrails.
func (d *Definition) question(now time.Time, by query.GroupBy) query.ExperimentQuery {
	q := query.ExperimentQuery{Project: d.Project, From: d.Started, To: now, Flag: d.Flag, Prompt: d.Prompt, Exclude: d.Exclude, By: by, Metrics: []query.Metric{d.Primary.Metric}, MinUsers: int64(d.MinUsers)}
	if d.CUPED != CUPEDOff {
		q.Past = pastDays * 24 * time.Hour
	}
	if !d.Stopped.IsZero() {
		q.To = d.Stopped
	}
	if !q.From.Before(q.To) {
		q.To = q.From.Add(time.Microsecond) // it has begun this very moment
	}
	for _, a := range d.Variants {
		q.Variants = append(q.Variants, a.Key)
	}
	for _, g := range d.Guardrails {
		q.Metrics = append(q.Metrics, g.Metric.Metric)
	}
	return q
}
