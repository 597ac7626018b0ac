package eval

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"crypto/sha256"

	"github.com/hedgerow/hedgerow/event"
)

// Kind is the kind of a check.
type Kind string

// The kinds of checks.
const (
	KindSchema    Kind = "json_schema"      // the answer is JSON that fits a schema
	KindRequired  Kind = "required_pattern" // every pattern is found in the answer
	KindForbidden Kind = "forbidden_pattern"
	KindLength    Kind = "length"   // in characters
	KindLanguage  Kind = "language" // the answer is in one of some languages
	KindRefusal   Kind = "refusal"  // the model did not refuse
	KindJudge     Kind = "judge"    // the verdict of another model
)

// Kinds are all kinds, in display order.
var Kinds = []Kind{KindSchema, KindRequired, KindForbidden, KindLength, KindLanguage, KindRefusal, KindJudge}

// Check is a project's check of answers. The fields in use depend on its kind.
type Check struct {
	ID        string  `json:"id"`      // ev_…
	ProjectID string  `json:"project"` //
	Name      string  `json:"name"`    // eval_name of its results; one of a kind in its project
	Kind      Kind    `json:"kind"`    //
	Enabled   bool    `json:"enabled"` // runs on events captured from now on
	Filter    Filter  `json:"filter,omitzero"`
	Sample    float64 `json:"sample_rate"` // part of the matching generations, over 0 to 1. Defaults to 1

	Schema    json.RawMessage `json:"schema,omitempty"`    // KindSchema: drafts 4 to 2020-12; no references to elsewhere
	Patterns  []string        `json:"patterns,omitempty"`  // KindRequired, KindForbidden: RE2, each found anywhere
	MinChars  int             `json:"min_chars,omitempty"` // KindLength; 0 is no bound
	MaxChars  int             `json:"max_chars,omitempty"`
	Languages []string        `json:"languages,omitempty"` // KindLanguage: ISO 639-1 codes such as en, de
	Judge     *Judge          `json:"judge,omitempty"`     // KindJudge

	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Judge configures the judging model.
type Judge struct {
	Provider    string  `json:"provider"`     // a route of the gateway with a project's key: openai, anthropic, openrouter …
	Model       string  `json:"model"`        //
	Instruction string  `json:"instruction"`  // criteria of a good answer, in words
	PassScore   float64 `json:"pass_score"`   // from this score on an answer passes, 0 to 1. Defaults to 0.5
	DailyUSD    float64 `json:"daily_usd"`    // most that it may spend in a day of UTC; required
	MaxTokens   int     `json:"max_tokens"`   // of a verdict. Defaults to 400
	ReadContext bool    `json:"read_context"` // the judge reads the whole conversation, not the last message only. Defaults to false
}

// Filter picks generations: those that match every list which is not empty.
type Filter struct {
	Prompts  []string `json:"prompts,omitempty"`  // names; "name@version" means one version
	Surfaces []string `json:"surfaces,omitempty"` //
	Models   []string `json:"models,omitempty"`   // requested or answering
}

// Match reports whether a generation is one of those.
func (f Filter) Match(e *event.Event) bool {
	if len(f.Prompts) > 0 && !slices.ContainsFunc(f.Prompts, func(p string) bool {
		name, version, one := strings.Cut(p, "@")
		return e.PromptName == name && (!one || e.PromptVersion == version || e.PromptVersionID == version)
	}) {
		return false
	}
	if len(f.Surfaces) > 0 && !slices.Contains(f.Surfaces, e.Surface) {
		return false
	}
	return len(f.Models) == 0 || slices.Contains(f.Models, e.Model) || slices.Contains(f.Models, e.ModelAsked)
}

// Wants reports whether the check runs on a captured event: a generation with an
// answer or a refusal that matches its filter and its sample, and that hedgerow
// did not make itself. It is deterministic for each event.
func (c *Check) Wants(e *event.Event) bool {
	return c.Enabled && e.Name == event.Generation && (!e.IsError || e.Status == event.StatusBlocked) && e.Surface != SurfaceJudge && e.Surface != SurfaceDataset && e.Properties[PropRun] == nil &&
		c.Filter.Match(e) && sampled(c.ID+"/"+e.UUID, c.Sample)
}

// sampled picks a part of all names, each name always the same way.
func sampled(name string, part float64) bool {
	if part >= 1 {
		return true
	}
	sum := sha256.Sum256([]byte(name))
	return float64(binary.BigEndian.Uint64(sum[:8])>>11)/(1<<53) < part
}

// Bounds of a check's settings.
const (
	maxChecks      = 100 // of a project
	maxPatterns    = 50
	maxPatternLen  = 1000
	maxSchema      = 64 << 10
	maxInstruction = 20_000 // bytes
	maxFilterItems = 50
	maxDailyUSD    = 10_000
	maxCheckChars  = 10_000_000
)

var nameForm = regexp.MustCompile(`^[\p{L}\p{N}][\p{L}\p{N} _.:/-]*$`)

// prepare sets defaults, drops fields that the kind does not use, and validates
// the rest.
func (c *Check) prepare() error {
	c.Name = strings.TrimSpace(c.Name)
	switch {
	case c.Name == "":
		return event.Invalid("the check has no name", "name it after what it tests, such as valid_json")
	case utf8.RuneCountInString(c.Name) > maxNameLen || !nameForm.MatchString(c.Name):
		return event.Invalid("the check's name cannot be used", "use up to 100 letters, digits, spaces and _.:/-")
	case !slices.Contains(Kinds, c.Kind):
		return event.Invalid(fmt.Sprintf("unknown check kind %q", c.Kind), "use "+kindNames())
	}
	if c.Sample == 0 {
		c.Sample = 1
	}
	if !(c.Sample > 0 && c.Sample <= 1) {
		return event.Invalid("the sampling rate is out of range", "use a number greater than 0, up to 1: 0.1 is 10 % of generations")
	}
	for _, l := range []*[]string{&c.Filter.Prompts, &c.Filter.Surfaces, &c.Filter.Models, &c.Patterns, &c.Languages} {
		*l = tidy(*l)
	}
	if n := len(c.Filter.Prompts) + len(c.Filter.Surfaces) + len(c.Filter.Models); n > maxFilterItems {
		return event.Invalid("the filter has too many entries", fmt.Sprintf("use at most %d", maxFilterItems))
	}
	if c.Kind != KindSchema {
		c.Schema = nil
	}
	if c.Kind != KindRequired && c.Kind != KindForbidden {
		c.Patterns = nil
	}
	if c.Kind != KindLength {
		c.MinChars, c.MaxChars = 0, 0
	}
	if c.Kind != KindLanguage {
		c.Languages = nil
	}
	if c.Kind != KindJudge {
		c.Judge = nil
	}
	_, err := compile(c)
	return err
}

func kindNames() string {
	names := make([]string, len(Kinds))
	for i, k := range Kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}

// tidy trims a list and removes empty and duplicate entries.
func tidy(list []string) []string {
	var out []string
	for _, s := range list {
		if s = strings.TrimSpace(s); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func (j *Judge) prepare() error {
	j.Provider, j.Model, j.Instruction = strings.TrimSpace(j.Provider), strings.TrimSpace(j.Model), strings.TrimSpace(j.Instruction)
	if j.PassScore == 0 {
		j.PassScore = 0.5
	}
	if j.MaxTokens == 0 {
		j.MaxTokens = 400
	}
	switch {
	case j.Provider == "" || j.Model == "":
		return event.Invalid("the judge has no provider or no model", "use a provider whose key the project stores, such as openai and gpt-4.1-mini")
	case j.Instruction == "":
		return event.Invalid("the judge has no criteria", "describe in a few sentences what makes a response good")
	case len(j.Instruction) > maxInstruction:
		return event.Invalid("the judge's criteria are too long", fmt.Sprintf("use at most %d bytes", maxInstruction))
	case !(j.PassScore > 0 && j.PassScore <= 1):
		return event.Invalid("the passing score is out of range", "use a number greater than 0, up to 1")
	case !(j.DailyUSD > 0 && j.DailyUSD <= maxDailyUSD):
		return event.Invalid("the judge has no daily budget", fmt.Sprintf("set a daily budget greater than 0, up to %d USD", maxDailyUSD))
	case j.MaxTokens < 50 || j.MaxTokens > 8000:
		return event.Invalid("the maximum output tokens are out of range", "use 50 to 8000 tokens")
	}
	return nil
}
