package dataset

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// Limits of stored records.
const (
	MaxSets     = 200     // of a project
	MaxExamples = 2000    // of a set
	MaxExample  = 512_000 // bytes of one example
	MaxRuns     = 100     // of a set; the oldest must be deleted first
	maxOutput   = 256_000 // bytes of an answer that are kept with a result
	maxName     = 100     // characters
)

// Set is a named list of examples.
type Set struct {
	ID          string    `json:"id"` // ds_…
	ProjectID   string    `json:"project"`
	Name        string    `json:"name"` // one of a kind in its project
	Description string    `json:"description"`
	Examples    int       `json:"examples"` // how many
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

// Example is one input, with details of a good answer.
type Example struct {
	ID        string          `json:"id"`                  // ex_…: dataset_example_id of the calls that are made of it
	Messages  []eval.Message  `json:"messages,omitempty"`  // the conversation, instructions included
	Variables map[string]any  `json:"variables,omitempty"` // for prompts that have any
	Tools     json.RawMessage `json:"tools,omitempty"`     // offered to the model, in the provider's form
	Expected  string          `json:"expected,omitempty"`  // a good answer; results that differ from it are marked
	Answer    string          `json:"answer,omitempty"`    // the answer of its source generation

	GenerationID string    `json:"generation_id,omitempty"` // uuid of that generation's event
	TraceID      string    `json:"trace_id,omitempty"`
	Provider     string    `json:"provider,omitempty"`
	Model        string    `json:"model,omitempty"`
	PromptName   string    `json:"prompt_name,omitempty"`
	Note         string    `json:"note,omitempty"`
	CreatedAt    time.Time `json:"created_at"`
}

// check returns an error for an invalid example.
func (x *Example) check() error {
	if len(x.Messages) == 0 && len(x.Variables) == 0 {
		return event.Invalid("the example has neither messages nor variables", `add "messages":  [{"role":"user","content":"…"}], or "variables" of a prompt`)
	}
	for _, m := range x.Messages {
		if m.Role == "" || !json.Valid(m.Content) {
			return event.Invalid("a message of the example has no role or no content", `use {"role":"user","content":"…"}`)
		}
	}
	b, err := json.Marshal(x)
	if err != nil {
		return event.NewError(event.CodeInvalid, "the example is not JSON", "", err)
	}
	if len(b) > MaxExample {
		return event.NewError(event.CodeTooLarge, "the example is larger than 512 kB", "shorten it", nil)
	}
	return nil
}

// FromGeneration makes an example of a stored generation with its content.
func FromGeneration(q *query.Event) (Example, error) {
	if q.Name != event.Generation {
		return Example{}, event.Invalid("this event is not a model response", "choose an event of type "+event.Generation)
	}
	if q.Content == nil || len(q.Content.Input) == 0 {
		return Example{}, event.Invalid("the content of this generation is not stored", "save examples before the project's retention deletes them, in projects that store content")
	}
	e := eval.FromStored(q)
	x := Example{GenerationID: q.UUID, TraceID: q.TraceID, Provider: q.Provider, Model: cmp.Or(q.ModelAsked, q.Model), PromptName: q.PromptName, Answer: eval.AnswerOf(e)}
	if json.Unmarshal(q.Content.Input, &x.Messages) != nil {
		return Example{}, event.Invalid("the input of this generation is not a conversation", "only chat calls can be run again")
	}
	if len(q.Content.Tools) > 0 && string(q.Content.Tools) != "null" {
		x.Tools = q.Content.Tools
	}
	if v := q.Properties["prompt_variables"]; len(v) > 0 {
		_ = json.Unmarshal(v, &x.Variables) // anything but an object are no variables
	}
	return x, nil
}

// Status is the state of a run.
type Status string

// The statuses of a run.
const (
	Running     Status = "running"
	Done        Status = "done"
	Cancelled   Status = "cancelled"
	OverBudget  Status = "over_budget" // the budget was used up before the end
	Failed      Status = "failed"      // Problem has the reason
	Interrupted Status = "interrupted" // hedgerow stopped during the run
)

// Resumable reports whether the run can be continued with [Runner.Resume].
func (x *Run) Resumable() bool {
	return x.Status == Interrupted || x.Status == Cancelled || x.Status == Failed
}

// Plan describes a run.
type Plan struct {
	Prompt      string                     `json:"prompt,omitempty"`  // of the registry; "" sends each example's own messages
	Version     string                     `json:"version,omitempty"` // number, label or id. Defaults to production, else the latest
	Provider    string                     `json:"provider"`          // a route of the gateway. Defaults to the version's, else the example's
	Model       string                     `json:"model"`             // Defaults to the version's, else the example's
	Params      map[string]json.RawMessage `json:"params,omitempty"`  // over the version's
	Checks      []string                   `json:"checks,omitempty"`  // ids or names of checks to run on the responses
	Concurrency int                        `json:"concurrency"`       // calls at one time, 1 to 16. Defaults to 4
	BudgetUSD   float64                    `json:"budget_usd"`        // most that the run's calls may cost together, judges apart; required
	Name        string                     `json:"name,omitempty"`    // Defaults to the prompt or model that it runs
}

// Run is a plan in progress or completed.
type Run struct {
	ID        string `json:"id"` // run_…
	ProjectID string `json:"project"`
	SetID     string `json:"dataset"`
	Plan
	VersionID string `json:"version_id,omitempty"` // pv_…: the version that really runs

	Status    Status          `json:"status"`
	Problem   string          `json:"problem,omitempty"`
	Total     int             `json:"total"`    // examples
	Finished  int             `json:"finished"` // of them, with errors
	Errors    int             `json:"errors"`
	CostUSD   decimal.Decimal `json:"cost_usd"` // of the calls with a known cost, without judges
	Cancel    bool            `json:"cancel,omitempty"`
	StartedAt time.Time       `json:"started_at"`
	EndedAt   time.Time       `json:"ended_at,omitzero"`
	BeatAt    time.Time       `json:"beat_at"` // last sign of life of its process
}

// Result is a run's result for one example.
type Result struct {
	ExampleID    string                     `json:"example_id"`
	Output       string                     `json:"output"`
	ToolCalls    bool                       `json:"tool_calls,omitempty"` // the model called a tool; see the trace
	Error        string                     `json:"error,omitempty"`      // the kind of failure, without the provider's words
	LatencyMS    event.Opt[float64]         `json:"latency_ms,omitzero"`
	CostUSD      event.Opt[decimal.Decimal] `json:"cost_usd,omitzero"`
	InputTokens  event.Int                  `json:"input_tokens,omitzero"`
	OutputTokens event.Int                  `json:"output_tokens,omitzero"`
	Model        string                     `json:"model,omitempty"` // that answered
	TraceID      string                     `json:"trace_id"`
	GenerationID string                     `json:"generation_id"`
	Evals        []eval.Result              `json:"evals,omitempty"`
}

// cleanName normalizes a name so that names are visibly distinct.
func cleanName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if name == "" || utf8.RuneCountInString(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) {
		return "", event.Invalid("the dataset's name cannot be used", fmt.Sprintf("use 1 to %d characters", maxName))
	}
	return name, nil
}
