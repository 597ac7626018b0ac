package price_test

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
)

// charge is what a source charges for a usage of a model.
type charge struct {
	source, provider, model string
	usage                   string // "" where the source has no price of the model
	usd                     decimal.Decimal
}

// charges reads a file that models.py has written.
func charges(t *testing.T, source string) (list []charge) {
	f, err := os.Open("testdata/models-" + source + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		fields := strings.Split(lines.Text(), "\t")
		c := charge{source: source, provider: fields[0], model: fields[1]}
		if len(fields) == 2 {
			list = append(list, c)
		}
		for _, field := range fields[2:] {
			i := strings.LastIndexByte(field, '=')
			c.usage = field[:i]
			if c.usd, err = decimal.NewFromString(field[i+1:]); err != nil {
				t.Fatalf("%s: %v", lines.Text(), err)
			}
			list = append(list, c)
		}
	}
	if err := lines.Err(); err != nil || len(list) < 5000 {
		t.Fatalf("%d charges, %v", len(list), err)
	}
	return list
}

// event is a call with the usage.
func (c charge) event(t *testing.T) *event.Event {
	e := &event.Event{Name: event.Generation, Provider: c.provider, Model: c.model, Timestamp: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)}
	if region, name, ok := strings.Cut(c.model, "/"); ok && c.provider == "bedrock" && strings.Count(region, "-") >= 2 {
		e.Model, e.BaseURL = name, "https://bedrock-runtime."+region+".amazonaws.com"
	}
	usage, at, _ := strings.Cut(c.usage, "@")
	if at != "" {
		var err error
		if e.Timestamp, err = time.Parse("2006-01-02T15:04Z", at); err != nil {
			t.Fatal(err)
		}
	}
	ways := strings.Split(usage, "/")
	for _, way := range ways[1:] {
		switch key, value, _ := strings.Cut(way, "="); key {
		case "service_tier":
			e.ServiceTier = value
		case "processing":
			e.ServiceTier = value
		case "speed":
			e.Speed = value
		case "geo":
			e.InferenceGeo = value
		default:
			e.ServiceTier = way // no event has it
		}
	}
	kind, above, _ := strings.Cut(ways[0], "+")
	u := &e.Usage
	const n = 1000
	input := func() {
		u.Input = event.Some[int64](n)
		if above != "" {
			step, err := strconv.ParseInt(above, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			u.Input.Value += step
		}
	}
	some, one := event.Some[int64](n), event.Some[int64](1)
	u.CacheExclusive = event.Some(false)
	switch kind {
	case "input":
		input()
	case "output":
		u.Output = some
		if above != "" {
			input()
		}
	case "reasoning":
		u.Output, u.Reasoning = some, some
	case "cache_read":
		input()
		u.CacheRead = some
	case "cache_write":
		input()
		u.CacheWrite = some
	case "cache_write_1h":
		input()
		u.CacheWrite, u.CacheWrite1h = some, some
	case "cache_write_12h":
		input()
		u.CacheWrite, u.CacheWrite12h = some, some
	case "input_audio":
		input()
		u.InputAudio = some
	case "output_audio":
		u.Output, u.OutputAudio = some, some
	case "cache_read_audio":
		input()
		u.InputAudio, u.CacheRead, u.CacheReadAudio = some, some, some
	case "input_image":
		input()
		u.InputImage = some
	case "output_image":
		u.Output, u.OutputImage = some, some
	case "cache_read_image":
		input()
		u.InputImage, u.CacheRead, u.CacheReadImage = some, some, some
	case "input_video":
		input()
		u.InputVideo = some
	case "output_video":
		u.Output, u.OutputVideo = some, some
	case "web_search":
		u.WebSearches = one
	case "file_search":
		u.FileSearches = one
	case "code_session":
		u.CodeSessions = one
	case "search_unit":
		u.SearchUnits = one
	case "hour":
		u.MediaTime = event.Some(time.Hour)
		e.Operation = "transcriptions"
	case "character":
		u.Characters = some
	case "page":
		u.Pages = one
	case "annotated_page":
		u.Pages = one
		e.ModelParameters = map[string]json.RawMessage{"document_annotation_format": json.RawMessage(`{"type":"json_schema"}`)}
	case "image":
		u.Images = one
	}
	return e
}

// rule explains differences.
type rule struct {
	line, reason string
	fields       []*regexp.Regexp
	result       string
	used         bool
}

func rules(t *testing.T, file string) (list []*rule) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	reason := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "== "); ok {
			if reason = text; !strings.Contains(text, "; https://") {
				t.Errorf("%q names no page", text)
			}
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) != 5 || reason == "" {
			t.Fatalf("%s: %q", file, line)
		}
		r := &rule{line: line, reason: reason, result: fields[4]}
		for _, f := range fields[:4] {
			r.fields = append(r.fields, regexp.MustCompile("^"+strings.ReplaceAll(regexp.QuoteMeta(f), `\*`, ".*")+"$"))
		}
		list = append(list, r)
	}
	return list
}

func (r *rule) explains(c charge, result string) bool {
	return (r.result == result || r.result == "*") && r.fields[0].MatchString(c.source) && r.fields[1].MatchString(c.provider) &&
		r.fields[2].MatchString(c.model) && r.fields[3].MatchString(c.usage)
}

// compare says how hedgerow's price of the usage differs; "" where it does not.
func (c charge) compare(t *testing.T, table *price.Table) (result, got string) {
	e := c.event(t)
	table.Price(e)
	total := counted(e)
	got = "unknown " + e.Cost.Unpriced
	if total.Known {
		got = total.Value.String()
	}
	switch {
	case total.Known && total.Value.Sub(c.usd).Abs().LessThanOrEqual(decimal.New(1, -9)):
		return "", got
	case c.usd.IsZero():
		return "zero", got
	case !total.Known:
		return "unknown", got
	case total.Value.Sub(c.usd).Abs().Mul(decimal.NewFromInt(100)).LessThan(c.usd):
		return "close", got
	}
	return "other", got
}

// TestModels compares the price of every model that genai-prices or LiteLLM knows, for
// every usage that they price, with hedgerow's. "make prices" writes what they charge.
func TestModels(t *testing.T) {
	table, explained := price.Default(), rules(t, "testdata/differences.txt")
	equal, differ := 0, make(map[string]int)
	for _, source := range []string{"genai", "litellm"} {
		for _, c := range charges(t, source) {
			if c.usage == "" {
				continue
			}
			result, got := c.compare(t, table)
			if result == "" {
				equal++
				continue
			}
			i := slices.IndexFunc(explained, func(r *rule) bool { return r.explains(c, result) })
			if i < 0 {
				t.Errorf("%s: %s %s %s is %s USD, hedgerow says %s (%s): mend it, or explain it in testdata/differences.txt", source, c.provider, c.model, c.usage, c.usd, got, result)
				continue
			}
			explained[i].used = true
			differ[explained[i].reason]++
		}
	}
	t.Logf("%d prices are equal", equal)
	for _, reason := range slices.Sorted(maps.Keys(differ)) {
		t.Logf("%4d differ: %s", differ[reason], reason)
	}
	unused(t, explained)
}

func unused(t *testing.T, list []*rule) {
	for _, r := range list {
		if !r.used {
			t.Errorf("no difference is left that this explains: %s", r.line)
		}
	}
}

// TestModelsHavePrices: what either source knows of the great providers has a price.
func TestModelsHavePrices(t *testing.T) {
	great := map[string]bool{
		"openai": true, "anthropic": true, "google": true, "gemini": true, "vertex_ai": true, "x-ai": true, "xai": true, "zai": true, "voyageai": true, "voyage": true,
		"minimax": true, "moonshotai": true, "moonshot": true, "deepseek": true, "mistral": true, "groq": true, "together": true, "together_ai": true,
		"fireworks": true, "fireworks_ai": true, "aws": true, "bedrock": true, "azure": true, "azure_ai": true,
	}
	table := price.Default()
	priced, models := make(map[string]bool), make(map[string]bool)
	for _, source := range []string{"genai", "litellm"} {
		for _, c := range charges(t, source) {
			if id := c.provider + " " + c.model; great[c.provider] && c.usage != "" && !c.usd.IsZero() {
				e := c.event(t)
				table.Price(e)
				models[id] = true
				priced[id] = priced[id] || counted(e).Known
			}
		}
	}
	var lacking []string
	for id := range models {
		if !priced[id] && !slices.ContainsFunc(piecemeal, func(s string) bool { return strings.Contains(id, s) }) {
			lacking = append(lacking, id)
		}
	}
	if len(models) < 2500 || len(lacking) > 0 {
		slices.Sort(lacking)
		t.Errorf("of %d models these have no price: %s", len(models), strings.Join(lacking, ", "))
	}
}

// piecemeal are models whose only prices are of pieces that no answer counts: pictures
// by size and steps, pictures by step for which a source has a price of tokens, messages
// of voice sessions. Of the last one only the price of priority processing is known.
var piecemeal = []string{
	"stability.stable-diffusion-xl-v", "amazon.nova-canvas-v1:0", "/models/SSD-1B", "/models/flux-1-", "stable-diffusion-xl", "/models/playground-v2-",
	"grok-voice-", "fireworks_ai accounts/fireworks/models/minimax-m2p7",
}
