package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
)

// providers are LiteLLM's names of those that hedgerow names otherwise. A name that
// begins with vertex_ai is google.
var providers = map[string]string{
	"text-completion-openai": "openai", "azure_text": "azure", "azure_ai": "azure", "bedrock": "amazon-bedrock", "bedrock_converse": "amazon-bedrock",
	"bedrock_mantle": "amazon-bedrock", "amazon_nova": "amazon-nova", "gemini": "google", "cohere_chat": "cohere", "together_ai": "together",
	"fireworks_ai": "fireworks", "fireworks_ai-embedding-models": "fireworks", "codestral": "mistral", "text-completion-codestral": "mistral",
	"vercel_ai_gateway": "", "github_copilot": "github-copilot", "bigmodel": "zhipuai",
}

// prefixes of keys repeat the provider.
var prefixes = []string{
	"openai/", "text-completion-openai/", "azure/", "azure_ai/", "bedrock/", "bedrock_converse/", "bedrock_mantle/", "gemini/", "vertex_ai/", "mistral/", "codestral/",
	"text-completion-codestral/", "groq/", "together_ai/", "fireworks_ai/", "xai/", "zai/", "voyage/", "minimax/", "moonshot/", "deepseek/", "cohere/", "perplexity/",
	"anthropic/", "databricks/", "cerebras/", "deepinfra/", "novita/", "nebius/", "openrouter/", "github_copilot/",
}

// kinds are the keys of prices without their suffixes. Prices are USD per unit.
var kinds = map[string]func(*price.Rates) *price.USD{
	"input_cost_per_token": func(r *price.Rates) *price.USD { return &r.Input }, "output_cost_per_token": func(r *price.Rates) *price.USD { return &r.Output },
	"cache_read_input_token_cost": func(r *price.Rates) *price.USD { return &r.CacheRead }, "cache_creation_input_token_cost": func(r *price.Rates) *price.USD { return &r.CacheWrite },
	"cache_creation_input_token_cost_above_1hr":  func(r *price.Rates) *price.USD { return &r.CacheWrite1h },
	"cache_creation_input_token_cost_above_12hr": func(r *price.Rates) *price.USD { return &r.CacheWrite12h },
	"output_cost_per_reasoning_token":            func(r *price.Rates) *price.USD { return &r.Reasoning },
	"input_cost_per_audio_token":                 func(r *price.Rates) *price.USD { return &r.InputAudio }, "output_cost_per_audio_token": func(r *price.Rates) *price.USD { return &r.OutputAudio },
	"cache_read_input_audio_token_cost": func(r *price.Rates) *price.USD { return &r.CacheReadAudio },
	"input_cost_per_image_token":        func(r *price.Rates) *price.USD { return &r.InputImage }, "output_cost_per_image_token": func(r *price.Rates) *price.USD { return &r.OutputImage },
	"cache_read_input_image_token_cost": func(r *price.Rates) *price.USD { return &r.CacheReadImage },
	"input_cost_per_video_token":        func(r *price.Rates) *price.USD { return &r.InputVideo }, "output_cost_per_video_token": func(r *price.Rates) *price.USD { return &r.OutputVideo },
	"output_cost_per_image": func(r *price.Rates) *price.USD { return &r.Image }, "input_cost_per_character": func(r *price.Rates) *price.USD { return &r.Character },
	"ocr_cost_per_page": func(r *price.Rates) *price.USD { return &r.Page }, "code_interpreter_cost_per_session": func(r *price.Rates) *price.USD { return &r.CodeSession },
	"input_cost_per_request": func(r *price.Rates) *price.USD { return &r.Request },
}

// suffixes of keys: a length of the prompt, then a way of calling.
var (
	aboveTokens = regexp.MustCompile(`_above_(\d+)k_tokens`)
	ways        = map[string]string{"batches": "processing=batch", "flex": "service_tier=flex", "priority": "service_tier=priority", "ultrafast": "service_tier=ultrafast", "balanced": "service_tier=balanced"}
)

// least bounds what is taken for a price of a token: 0.001 USD per million. Models of
// pictures have less there, which is no price of theirs.
var least = decimal.New(1, -9)

// fromLiteLLM reads LiteLLM's file. A price of 0 is left out: there it also
// means an unknown price.
func fromLiteLLM(b []byte) ([]price.Row, error) {
	var file map[string]map[string]json.RawMessage
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, fmt.Errorf("read LiteLLM's prices: %w", err)
	}
	var rows []price.Row
	seen := map[string]int{}
	keys := make([]string, 0, len(file))
	for key := range file {
		keys = append(keys, key)
	}
	// A key without prefix is the provider's own name for it: it comes first.
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.Count(a, "/"), strings.Count(b, "/")), strings.Compare(a, b))
	})
	for _, key := range keys {
		record := file[key]
		provider, model, ok := name(key, text(record["litellm_provider"]))
		if !ok {
			continue
		}
		row, err := fromRecord(record)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		row.Provider, row.Model = provider, model
		if row.Rates == (price.Rates{}) && len(row.Variants) == 0 {
			continue
		}
		id := provider + " " + strings.ToLower(model)
		if i, ok := seen[id]; ok {
			rows[i] = rows[i].Merge(row)
			continue
		}
		seen[id] = len(rows)
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, b price.Row) int {
		return cmp.Or(strings.Compare(a.Provider, b.Provider), strings.Compare(a.Model, b.Model))
	})
	return rows, nil
}

// name is the provider and the model of a key. A model of Vertex, or of one region of
// Bedrock, begins with the place: "vertex/…", "us-east-1/…". Keys of a commitment or of a
// size are no model's name.
func name(key, provider string) (string, string, bool) {
	if provider == "" || provider == "sample_spec" || strings.HasPrefix(provider, "one of") {
		return "", "", false
	}
	p, known := providers[provider]
	switch {
	case known && p == "":
		return "", "", false
	case strings.HasPrefix(provider, "vertex_ai"):
		p = "google"
	case !known:
		p = provider
	}
	model := key
	if rest, ok := strings.CutPrefix(model, provider+"/"); ok {
		model = rest
	} else {
		for _, prefix := range prefixes {
			if rest, ok := strings.CutPrefix(model, prefix); ok {
				model = rest
				break
			}
		}
	}
	model = strings.TrimPrefix(strings.TrimPrefix(model, "accounts/fireworks/models/"), "accounts/fireworks/routers/")
	if model == "" || len(model) > 200 || strings.Contains(model, "commitment") {
		return "", "", false
	}
	if p == "amazon-bedrock" {
		model = strings.TrimPrefix(model, "invoke/")
		if place, _, ok := strings.Cut(model, "/"); ok && !region.MatchString(place) {
			return "", "", false
		}
	}
	if strings.HasPrefix(provider, "vertex_ai") {
		model = "vertex/" + model
	}
	return strings.ReplaceAll(p, "_", "-"), model, true
}

var region = regexp.MustCompile(`^[a-z]{2}(-gov)?-[a-z]+-\d$`)

func text(raw json.RawMessage) (s string) {
	_ = json.Unmarshal(raw, &s)
	return s
}

func fromRecord(record map[string]json.RawMessage) (price.Row, error) {
	var r price.Row
	sets := map[string]map[int64]*price.Rates{} // by way and length
	set := func(way string, above int64) *price.Rates {
		if sets[way] == nil {
			sets[way] = map[int64]*price.Rates{}
		}
		if sets[way][above] == nil {
			sets[way][above] = new(price.Rates)
		}
		return sets[way][above]
	}
	for key, raw := range record {
		kind, way, above := key, "", int64(0)
		if m := aboveTokens.FindStringSubmatchIndex(kind); m != nil {
			n, err := strconv.ParseInt(kind[m[2]:m[3]], 10, 64)
			if err != nil {
				return r, err
			}
			above, kind = n*1000, kind[:m[0]]+kind[m[1]:]
		}
		for suffix, w := range ways {
			if rest, ok := strings.CutSuffix(kind, "_"+suffix); ok {
				kind, way = rest, w
			}
		}
		if at := kinds[kind]; at != nil {
			d, ok := number(raw)
			if !ok || d.IsZero() || strings.HasSuffix(kind, "_token") && d.LessThan(least) {
				continue
			}
			*at(set(way, above)) = event.Some(d)
		}
	}
	for _, lengths := range sets {
		for _, r := range lengths {
			if r.CacheWrite.Known && r.Input.Known && r.CacheWrite.Value.LessThan(r.Input.Value) {
				r.CacheWrite = price.USD{} // a read's price, or what storage adds
			}
		}
	}
	base := set("", 0)
	pieces(record, base)
	r.Rates = *base
	r.Tiers = tiers(sets[""])
	for _, way := range ways {
		if lengths := sets[way]; lengths != nil {
			v := price.Variant{When: way, Tiers: tiers(lengths)}
			if lengths[0] != nil {
				v.Rates = *lengths[0]
			}
			if v.Input.Known || v.Page.Known { // else only some of its prices are given
				r.Variants = append(r.Variants, v)
			}
		}
	}
	for suffix, when := range map[string]string{"": "", "_batches": "&processing=batch"} {
		if d, ok := number(record["annotation_cost_per_page"+suffix]); ok && d.IsPositive() {
			r.Variants = append(r.Variants, price.Variant{When: "pages=annotated" + when, Rates: price.Rates{Page: event.Some(d)}})
		}
	}
	var entry map[string]json.RawMessage
	_ = json.Unmarshal(record["provider_specific_entry"], &entry)
	for _, f := range []struct {
		raw  json.RawMessage
		when string
	}{{entry["us"], "geo=us"}, {entry["fast"], "speed=fast"}, {record["regional_processing_uplift_multiplier_eu"], "geo=eu"}, {record["regional_processing_uplift_multiplier_us"], "geo=us"}} {
		if d, ok := number(f.raw); ok && d.IsPositive() {
			r.Variants = append(r.Variants, price.Variant{When: f.when, Factor: event.Some(d)})
		}
	}
	slices.SortFunc(r.Variants, func(a, b price.Variant) int {
		return cmp.Or(cmp.Compare(strings.Count(b.When, "&"), strings.Count(a.When, "&")), strings.Compare(a.When, b.When))
	})
	return r, nil
}

// pieces reads the prices whose meaning depends on the mode of the model.
func pieces(record map[string]json.RawMessage, r *price.Rates) {
	take := func(to *price.USD, key string, factor int64) {
		if d, ok := number(record[key]); ok && d.IsPositive() && !to.Known {
			*to = event.Some(d.Mul(decimal.NewFromInt(factor)))
		}
	}
	switch text(record["mode"]) {
	case "audio_transcription":
		take(&r.Hour, "input_cost_per_second", 3600)
		take(&r.Hour, "input_cost_per_audio_per_second", 3600)
	case "audio_speech":
		take(&r.Hour, "output_cost_per_second", 3600)
	case "video_generation":
		take(&r.Hour, "output_cost_per_video_per_second", 3600)
		take(&r.Hour, "output_cost_per_second", 3600)
	case "image_generation", "image_edit":
		take(&r.Image, "input_cost_per_image", 1)
	case "rerank":
		take(&r.SearchUnit, "input_cost_per_query", 1)
	}
	if text(record["mode"]) != "image_generation" && text(record["mode"]) != "image_edit" {
		r.Image = price.USD{}
	}
	var search map[string]json.RawMessage
	if json.Unmarshal(record["search_context_cost_per_query"], &search) == nil && len(search) > 0 {
		low, medium, high := string(search["search_context_size_low"]), string(search["search_context_size_medium"]), string(search["search_context_size_high"])
		if d, ok := number(search["search_context_size_medium"]); ok && d.IsPositive() && low == medium && medium == high {
			r.WebSearch = event.Some(d)
		}
	}
	if d, ok := number(record["file_search_cost_per_1k_calls"]); ok && d.IsPositive() {
		r.FileSearch = event.Some(d.Shift(-3))
	}
}

func tiers(lengths map[int64]*price.Rates) (list []price.Tier) {
	for above, r := range lengths {
		if above > 0 {
			list = append(list, price.Tier{Above: above, Rates: *r})
		}
	}
	slices.SortFunc(list, func(a, b price.Tier) int { return cmp.Compare(a.Above, b.Above) })
	return list
}

func number(raw json.RawMessage) (decimal.Decimal, bool) {
	s := strings.Trim(string(raw), `"`)
	if s == "" || len(s) > 40 {
		return decimal.Decimal{}, false
	}
	d, err := decimal.NewFromString(s)
	if err != nil {
		return decimal.Decimal{}, false
	}
	// What a binary float has made of a price: 3.0000000000000004e-07.
	if d.NumDigits() > 15 {
		d = d.Round(int32(15-d.NumDigits()) - d.Exponent())
	}
	return d, true
}
