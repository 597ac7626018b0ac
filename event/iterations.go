package event

import (
	"encoding/json"

	"github.com/tidwall/gjson"
)

// OtherModels is the key in [Event.ProviderMetadata] of the usage of models
// other than the call's own, such as an advisor's: a list of [ModelUsage].
// These tokens are not in its Usage, but their cost is in its Cost.
const OtherModels = "other_models"

// ModelUsage is the usage of one model in a call.
type ModelUsage struct {
	Model string `json:"model"`
	Usage Usage  `json:"usage"`
}

const maxOtherModels = 32

// SetIterations sets the event's usage to the sum of Anthropic's
// usage.iterations, a JSON list (anthropic-sdk: BetaUsage). A call with
// compaction, an advisor or a server-side fallback runs models several times:
// the top level of the usage excludes the tokens of a compaction and of an
// advisor, and of the messages' input it has only the first. The sum is billed,
// each part at the price of its own model.
func (e *Event) SetIterations(raw string) {
	list := gjson.Parse(raw)
	if !list.Get("0").IsObject() {
		return
	}
	fellBack := list.Get(`#(type=="fallback_message")`).Exists()
	var own Usage
	var others []ModelUsage
	list.ForEach(func(_, it gjson.Result) bool {
		model := FirstChars(it.Get("model").Str, MaxNameLen)
		if model == "" && fellBack && it.Get("type").Str == "message" {
			model = e.ModelAsked // the model that another one replaced
		}
		if model == "" || model == e.Model || e.Model == "" || model == e.ModelAsked && !fellBack {
			own.addIteration(it)
			return true
		}
		for i := range others {
			if others[i].Model == model {
				others[i].Usage.addIteration(it)
				return true
			}
		}
		if len(others) < maxOtherModels {
			m := ModelUsage{Model: model, Usage: Usage{CacheExclusive: Some(true)}}
			m.Usage.addIteration(it)
			others = append(others, m)
		}
		return true
	})
	u := &e.Usage
	for _, c := range []struct{ to, sum *Int }{
		{&u.Input, &own.Input}, {&u.Output, &own.Output}, {&u.CacheRead, &own.CacheRead},
		{&u.CacheWrite, &own.CacheWrite}, {&u.CacheWrite5m, &own.CacheWrite5m}, {&u.CacheWrite1h, &own.CacheWrite1h},
	} {
		if c.sum.Known {
			*c.to = *c.sum
		}
	}
	if len(others) == 0 {
		return
	}
	b, err := json.Marshal(others)
	if err != nil {
		return
	}
	e.ProviderMetadata = cloneMap(e.ProviderMetadata)
	if e.ProviderMetadata == nil {
		e.ProviderMetadata = make(map[string]json.RawMessage, 1)
	}
	e.ProviderMetadata[OtherModels] = b
}

func (u *Usage) addIteration(it gjson.Result) {
	for _, c := range []struct {
		to *Int
		at string
	}{
		{&u.Input, "input_tokens"}, {&u.Output, "output_tokens"}, {&u.CacheRead, "cache_read_input_tokens"}, {&u.CacheWrite, "cache_creation_input_tokens"},
		{&u.CacheWrite5m, "cache_creation.ephemeral_5m_input_tokens"}, {&u.CacheWrite1h, "cache_creation.ephemeral_1h_input_tokens"},
	} {
		v := it.Get(c.at)
		if n, ok := Count(v.Num); ok && v.Type == gjson.Number {
			*c.to = Some(c.to.Or(0) + n)
		}
	}
}
