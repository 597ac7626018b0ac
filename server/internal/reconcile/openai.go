package reconcile

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

// OpenAI's organization API: GET /v1/organization/costs and /usage/…, whose pages are
// {object: "page", data: [{object: "bucket", start_time, end_time, results: […]}]}
// (package openai of PyPI, types/admin/organization), and the CSV exports of the usage
// dashboard, which have the same fields.

const openAIBucket = "object start_time end_time start_time_iso end_time_iso project_id project_name organization_id organization_name user_id user_email api_key_id api_key_name"

var (
	openAIStart = []string{"start_time", "start_time_iso"}
	openAIEnd   = []string{"end_time", "end_time_iso"}
)

var openAICosts = format{
	name:  "OpenAI costs",
	known: names(openAIBucket, "amount_value amount_currency line_item quantity quantity_unit"),
	is: func(has func(string) bool) bool {
		return (has("start_time") || has("start_time_iso")) && (has("amount_value") || has("line_item"))
	},
	feed: func(record) Feed { return OpenAICosts },
	read: readOpenAICost,
}

func readOpenAICost(r record, c *collector) error {
	day, err := r.day(openAIStart, openAIEnd)
	if err != nil {
		return err
	}
	usd, err := r.number("amount_value")
	if err != nil {
		return err
	}
	if !usd.Known { // a day without costs, in the CSV export
		return c.cover(day)
	}
	if err := onlyUSD(r, r.text("amount_currency")); err != nil {
		return err
	}
	l := openAILine(r.text("line_item"))
	l.Day, l.USD = day, usd
	n, err := r.count("quantity")
	if err != nil {
		return err
	}
	unit := strings.ToLower(r.text("quantity_unit"))
	switch {
	case !n.Known:
	case l.Kind.tokens() && (unit == "" || unit == "tokens"), l.Kind == Images && unit == "images", l.Kind == Characters && unit == "characters":
		l.Quantity = n
	case l.Kind.tokens() && unit == "1000_tokens":
		l.Quantity = event.Some(n.Value.Shift(3))
	case l.Kind == Seconds && unit == "duration_seconds":
		l.Quantity = n
	case l.Kind == Seconds && unit == "duration_minutes":
		l.Quantity = event.Some(n.Value.Mul(decimal.NewFromInt(60)))
	}
	return c.add(l)
}

// onlyUSD refuses amounts in another currency: hedgerow's costs are in USD, and a rate
// of exchange would be a guess.
func onlyUSD(r record, currency string) error {
	if currency == "" || strings.EqualFold(currency, "usd") {
		return nil
	}
	return event.Invalid(fmt.Sprintf("%s: the amount is in %s", r.where, strings.ToUpper(event.FirstChars(clean(currency), 20))), "only bills in USD can be compared; hedgerow converts no currency")
}

var openAITiers = map[string]bool{"standard": true, "default": true, "priority": true, "flex": true, "batch": true, "scale": true, "fast": true, "ultrafast": true}

// openAILine reads a line item such as "gpt-4o-2024-08-06, input", "gpt-4o, cached
// input", "priority | gpt-5.6-sol, output, long context", "gpt-image-2 text, input" or
// "web search tool calls".
func openAILine(item string) (l Line) {
	if l.Item = item; strings.TrimSpace(item) == "" {
		l.Kind = Total
		return l
	}
	rest := item
	for {
		head, after, found := strings.Cut(rest, " | ")
		if !found {
			break
		}
		if tier := strings.ToLower(strings.TrimSpace(head)); openAITiers[tier] {
			l.Tier = tierOf(tier)
		}
		rest = after
	}
	parts := strings.Split(rest, ",")
	words := strings.Fields(parts[0])
	if len(parts) == 1 || len(words) == 0 {
		l.Kind = openAITool(rest)
		return l
	}
	l.Model = words[0]
	var what []string
	for _, w := range strings.Fields(strings.ToLower(strings.Join(words[1:], " ") + " " + parts[1])) {
		if openAITiers[w] {
			l.Tier = tierOf(w)
			continue
		}
		what = append(what, w)
	}
	l.Kind = openAIKind(strings.Join(what, " "))
	return l
}

// openAIKind is the kind of a model's line by its words: the modality, if any, and what
// is billed.
func openAIKind(what string) Kind {
	has := func(w string) bool { return strings.Contains(what, w) }
	switch {
	case has("training"), has("storage"):
		return Other
	case has("cache write"), has("cached write"):
		return cmp.Or(map[bool]Kind{true: CacheWrite12h}[has("12")], CacheWrite)
	case has("cached"):
		return CacheRead
	case has("audio") && has("input"):
		return InputAudio
	case has("audio") && has("output"):
		return OutputAudio
	case has("image") && has("input"):
		return InputImage
	case has("image") && has("output"):
		return OutputImage
	case has("input"):
		return Input
	case has("output"):
		return Output
	case has("image"):
		return Images
	case has("audio"), has("transcription"), has("video"), has("duration"):
		return Seconds
	case has("character"), has("speech"), has("tts"):
		return Characters
	}
	return Other
}

// openAITool is the kind of a line that names no model.
func openAITool(item string) Kind {
	item = strings.ToLower(item)
	switch {
	case strings.Contains(item, "web search"):
		return WebSearch
	case strings.Contains(item, "file search") && !strings.Contains(item, "storage"):
		return FileSearch
	case strings.Contains(item, "code interpreter"):
		return CodeSession
	}
	return Other
}

var openAIUsageFormat = format{
	name: "OpenAI usage",
	known: names(openAIBucket, `model batch service_tier api_source num_model_requests num_requests num_sessions
		input_tokens output_tokens input_cached_tokens input_uncached_tokens input_cache_write_tokens input_cache_write_30m_tokens input_cache_write_12h_tokens
		input_text_tokens output_text_tokens input_cached_text_tokens input_audio_tokens input_cached_audio_tokens output_audio_tokens
		input_image_tokens input_cached_image_tokens output_image_tokens images size source characters seconds usage_bytes context_level vector_store_id`),
	is: func(has func(string) bool) bool {
		if !has("start_time") && !has("start_time_iso") {
			return false
		}
		return has("num_model_requests") || has("num_requests") || has("num_sessions") || has("usage_bytes")
	},
	feed: func(r record) Feed { return usageFeed(openAIEndpoint(r)) },
	read: readOpenAIUsage,
}

// usageFeed is the feed of one of OpenAI's usage endpoints.
func usageFeed(endpoint string) Feed { return Feed(openAIUsage + endpoint) }

// openAIEndpoint is the endpoint of a usage result: its object names it; in CSV its
// fields do.
func openAIEndpoint(r record) string {
	if name, ok := strings.CutPrefix(r.text("object"), "organization.usage."); ok {
		return strings.TrimSuffix(clean(name), ".result")
	}
	switch {
	case r.has("images"):
		return "images"
	case r.has("characters"):
		return "audio_speeches"
	case r.has("seconds"):
		return "audio_transcriptions"
	case r.has("num_sessions"):
		return "code_interpreter_sessions"
	case r.has("usage_bytes"):
		return "vector_stores"
	case r.has("context_level"):
		return "web_searches"
	case r.has("vector_store_id"), r.has("num_requests"):
		return "file_searches"
	case r.has("output_tokens"):
		return "completions"
	}
	return "embeddings"
}

func readOpenAIUsage(r record, c *collector) error {
	day, err := r.day(openAIStart, openAIEnd)
	if err != nil {
		return err
	}
	l := Line{Day: day, Model: r.text("model"), Tier: tierOf(r.text("service_tier"))}
	if strings.EqualFold(r.text("batch"), "true") {
		l.Tier = "batch"
	}
	read := func(field string) (n Amount) {
		if err == nil {
			n, err = r.count(field)
		}
		return n
	}
	all, cached, writes := read("input_tokens"), read("input_cached_tokens"), read("input_cache_write_tokens")
	long, uncached := read("input_cache_write_12h_tokens"), read("input_uncached_tokens")
	audioIn, imageIn := read("input_audio_tokens"), read("input_image_tokens")
	out, audioOut, imageOut := read("output_tokens"), read("output_audio_tokens"), read("output_image_tokens")
	requests, sessions, tools := read("num_model_requests"), read("num_sessions"), read("num_requests")
	images, characters, seconds := read("images"), read("characters"), read("seconds")
	if err != nil {
		return err
	}
	if !uncached.Known && all.Known {
		uncached = less(all, cached, writes)
	}
	switch openAIEndpoint(r) {
	case "code_interpreter_sessions":
		return addAll(c, l, quantities{{CodeSession, sessions}})
	case "web_searches", "web_search_calls":
		l.Model = ""
		return addAll(c, l, quantities{{WebSearch, tools}})
	case "file_searches", "file_search_calls":
		return addAll(c, l, quantities{{FileSearch, tools}})
	case "vector_stores":
		return c.cover(day)
	}
	if requests.Known {
		l.Requests = event.Some(requests.Value.IntPart())
	}
	return addAll(c, l, quantities{
		{Input, less(uncached, audioIn, imageIn)}, {CacheRead, cached}, {CacheWrite, less(writes, long)}, {CacheWrite12h, long}, {InputAudio, audioIn}, {InputImage, imageIn},
		{Output, less(out, audioOut, imageOut)}, {OutputAudio, audioOut}, {OutputImage, imageOut},
		{Images, images}, {Characters, characters}, {Seconds, seconds},
	})
}

// quantities are what one record counts by kind.
type quantities []struct {
	kind Kind
	n    Amount
}

// addAll adds a line of each known quantity. The first of them has the requests; where
// there is none, a line of no quantity has them.
func addAll(c *collector, l Line, list quantities) error {
	if err := c.cover(l.Day); err != nil {
		return err
	}
	requests := l.Requests
	for _, q := range list {
		if !q.n.Known || q.n.Value.IsZero() {
			continue
		}
		l.Kind, l.Quantity, l.Requests = q.kind, q.n, requests
		if err := c.add(l); err != nil {
			return err
		}
		requests = event.Int{}
	}
	if requests.Known && requests.Value > 0 {
		l.Kind, l.Quantity, l.Requests = Input, Amount{}, requests
		return c.add(l)
	}
	return nil
}

// less is a count without its parts, and never below 0: parts that exceed it are of
// another way of counting.
func less(n Amount, parts ...Amount) Amount {
	if !n.Known {
		return n
	}
	for _, p := range parts {
		n.Value = n.Value.Sub(p.Or(decimal.Zero))
	}
	if n.Value.IsNegative() {
		n.Value = decimal.Zero
	}
	return n
}
