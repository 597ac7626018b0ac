package reconcile

import (
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// Feed is a source of lines: one report of one provider. A day of a feed and an
// account is replaced as a whole.
type Feed string

// The feeds. OpenAI's usage has one per endpoint: see [usageFeed].
const (
	OpenAICosts        Feed = "openai-costs"
	AnthropicCosts     Feed = "anthropic-costs"
	AnthropicUsage     Feed = "anthropic-usage"
	OpenRouterActivity Feed = "openrouter-activity"
	AWSCostAndUsage    Feed = "aws-cost-and-usage"
)

// The providers whose bills can be imported, as events name them.
const (
	OpenAI     = "openai"
	Anthropic  = "anthropic"
	OpenRouter = "openrouter"
	Bedrock    = "amazon-bedrock"
)

// Providers lists the providers whose bills can be imported.
var Providers = []string{OpenAI, Anthropic, OpenRouter, Bedrock}

const openAIUsage = "openai-usage-"

// Provider is the provider of the feed.
func (f Feed) Provider() string {
	switch f {
	case AnthropicCosts, AnthropicUsage:
		return Anthropic
	case OpenRouterActivity:
		return OpenRouter
	case AWSCostAndUsage:
		return Bedrock
	}
	return OpenAI
}

// Costs reports whether the feed has amounts. The others have quantities only.
func (f Feed) Costs() bool { return f != AnthropicUsage && !strings.HasPrefix(string(f), openAIUsage) }

// Kind is what a line counts or bills.
type Kind string

// The kinds of lines. Token kinds exclude each other: Input is input that is neither
// cached nor audio nor image. A line of Total bills every kind of its model or, without
// a model, the whole day.
const (
	Input         Kind = "input"
	CacheRead     Kind = "cache_read"
	CacheWrite    Kind = "cache_write" // for the provider's shortest lifetime
	CacheWrite1h  Kind = "cache_write_1h"
	CacheWrite12h Kind = "cache_write_12h"
	InputAudio    Kind = "input_audio"
	InputImage    Kind = "input_image"
	Output        Kind = "output"
	OutputAudio   Kind = "output_audio"
	OutputImage   Kind = "output_image"
	Images        Kind = "images"
	Seconds       Kind = "seconds"
	Characters    Kind = "characters"
	WebSearch     Kind = "web_search"
	FileSearch    Kind = "file_search"
	CodeSession   Kind = "code_session"
	Other         Kind = "other" // storage, training, taxes, credits …
	Total         Kind = "total"
)

// side groups the kinds among which a difference can move: tokens that one party
// counts as cached input are the other's uncached input.
func (k Kind) side() string {
	switch k {
	case Input, CacheRead, CacheWrite, CacheWrite1h, CacheWrite12h, InputAudio, InputImage:
		return "input"
	case Output, OutputAudio, OutputImage:
		return "output"
	case Images, Seconds, Characters:
		return string(k)
	}
	return ""
}

// usage reports whether lines of the kind are what a model reads or writes, rather
// than a tool or another charge.
func (k Kind) usage() bool { return k.side() != "" }

// tokens reports whether the kind counts tokens.
func (k Kind) tokens() bool { return k.side() == "input" || k.side() == "output" }

// Amount is a decimal that may be unknown.
type Amount = event.Opt[decimal.Decimal]

// USD is an amount in answers: a number in JSON, null where it is unknown.
type USD = query.USD

// Line is a quantity that a provider counted or an amount that it billed, or both, on
// one UTC day.
type Line struct {
	Account  string    `json:"account,omitempty"` // where the export names one
	Day      string    `json:"-"`                 // 2026-11-30
	Model    string    `json:"model,omitempty"`   // as the export names it; "" where it names none
	Tier     string    `json:"tier,omitempty"`    // standard, batch, flex, priority …; "" where the export does not say
	Kind     Kind      `json:"kind"`
	Item     string    `json:"item,omitempty"` // what is billed in the export's words
	Quantity Amount    `json:"quantity,omitzero"`
	USD      Amount    `json:"usd,omitzero"`
	Requests event.Int `json:"requests,omitzero"` // calls that the line counts, on one line of each call only
	Rows     int       `json:"rows,omitempty"`    // amounts that USD is the sum of, each rounded by the provider
}

// Export is what files have of one feed.
type Export struct {
	Feed    Feed
	Lines   []Line
	Days    []string // the UTC days that the files are about, with or without lines
	Unknown []string // columns and fields that are not read, by name
	Notes   []string // what else a user should know
	Step    decimal.Decimal
	// Step is the smallest step of the file's amounts: amounts with two digits behind
	// the point are rounded to 0.01. Zero without amounts.
}

// Standard is the tier of calls without a special one.
const Standard = "standard"

// tierOf is the tier by a provider's name of it.
func tierOf(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	name = strings.TrimPrefix(strings.TrimPrefix(name, "service_tier_"), "on_demand_")
	switch name {
	case "default", "auto", "on_demand", "standard_only", "message", "api":
		return Standard
	case "batches", "message_batch":
		return "batch"
	case "priority_on_demand":
		return "priority"
	case "flex_discount":
		return "flex"
	}
	return name
}

// dayOf is the UTC day of a time.
func dayOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }
