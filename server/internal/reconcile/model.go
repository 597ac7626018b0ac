package reconcile

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
)

// Prices finds the price of a model. [*price.Table] does.
type Prices interface {
	Match(provider, model string) (price.Row, bool)
	Price(e *event.Event)
}

// modelKey is what two names of one model have in common: the model of the price that
// they lead to. Names of Anthropic's console and of AWS's bills (Claude 3.5 Sonnet,
// Claude4.6Sonnet) are no ids: for these providers it is the model's words and version
// numbers, without vendor, region, date and revision.
func modelKey(t Prices, provider, name string) string {
	if name == "" {
		return ""
	}
	key := strings.ToLower(name)
	if row, ok := t.Match(provider, name); ok {
		key = row.Model
	} else if name, ok := strings.CutPrefix(key, provider+"/"); ok {
		key = name
	}
	if provider == Anthropic || provider == Bedrock {
		return wordsOf(name, key)
	}
	return key
}

var (
	camel    = regexp.MustCompile(`([a-z])([A-Z])`)
	revision = regexp.MustCompile(`(?:[-: ]v?[0-9]+:[0-9]+(?::[0-9]+k)?|[- ]v[0-9]+)$`)
	date     = regexp.MustCompile(`[-@ ]?20[0-9]{2}-?[01][0-9]-?[0-3][0-9]`)
	word     = regexp.MustCompile(`[a-z]+|[0-9]+`)
)

var noModel = map[string]bool{
	"anthropic": true, "amazon": true, "meta": true, "mistral": true, "cohere": true, "openai": true, "ai": true,
	"us": true, "eu": true, "apac": true, "jp": true, "au": true, "gov": true, "global": true, "regional": true, "bedrock": true, "latest": true,
}

// wordsOf is the key of a name that is written as people write it. matched is the model
// of its price, which is preferred since it is an id.
func wordsOf(name, matched string) string {
	if strings.EqualFold(name, matched) { // no price: as the bill writes it
		matched = camel.ReplaceAllString(name, "$1 $2")
	}
	s := strings.ToLower(matched)
	if i := strings.LastIndexByte(s, '/'); i >= 0 { // an ARN
		s = s[i+1:]
	}
	s = revision.ReplaceAllString(date.ReplaceAllString(s, ""), "")
	var words, numbers []string
	for _, w := range word.FindAllString(s, -1) {
		switch {
		case w == "embeddings":
			words = append(words, "embed")
		case noModel[w] || w == "0":
		case w[0] <= '9':
			numbers = append(numbers, w)
		default:
			words = append(words, w)
		}
	}
	slices.Sort(words)
	return strings.Join(append(words, numbers...), "-")
}

// sampleTokens is how much is priced to find a rate: less than any context tier.
const sampleTokens = 1000

// rateOf is hedgerow's price of one unit of a kind, by its table as it is now, at noon
// of a day. Unknown where the table has none.
func rateOf(t Prices, provider, model string, c comp, day string) Amount {
	e := &event.Event{Name: event.Generation, Provider: provider, Model: model, ServiceTier: c.tier}
	if at, err := time.Parse(time.DateOnly, day); err == nil {
		e.Timestamp = at.Add(12 * time.Hour)
	}
	if c.tier == "fast" && provider == Anthropic {
		e.ServiceTier, e.Speed = "", "fast"
	}
	if c.tier == Standard {
		e.ServiceTier = ""
	}
	n := event.Some[int64](sampleTokens)
	u := &e.Usage
	u.Input, u.CacheExclusive = event.Some[int64](0), event.Some(false)
	switch c.kind {
	case Output, OutputAudio, OutputImage:
		u.Output = n
		if c.kind == OutputAudio {
			u.OutputAudio = n
		}
		if c.kind == OutputImage {
			u.OutputImage = n
		}
	case Input, CacheRead, CacheWrite, CacheWrite1h, CacheWrite12h, InputAudio, InputImage:
		u.Input, u.Output = n, event.Some[int64](0)
		switch c.kind {
		case CacheRead:
			u.CacheRead = n
		case CacheWrite:
			u.CacheWrite, u.CacheWrite5m = n, n
		case CacheWrite1h:
			u.CacheWrite, u.CacheWrite1h = n, n
		case CacheWrite12h:
			u.CacheWrite, u.CacheWrite12h = n, n
		case InputAudio:
			u.InputAudio = n
		case InputImage:
			u.InputImage = n
		}
	case Images:
		u.Input, u.Images = event.Int{}, n
	case Characters:
		u.Input, u.Characters = event.Int{}, n
	case Seconds:
		u.Input, u.MediaTime = event.Int{}, event.Some(sampleTokens*time.Second)
	default:
		return Amount{}
	}
	t.Price(e)
	cost := e.Cost.Total
	if !cost.Known {
		cost = e.Cost.Sum()
	}
	if !cost.Known || e.Cost.Unpriced != "" {
		return Amount{}
	}
	return event.Some(cost.Value.DivRound(decimal.NewFromInt(sampleTokens), precision))
}
