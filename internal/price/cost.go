package price

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

// WarningProperty is the property in which [Table.Price] says what was wrong with
// an event's counts or costs: a list of the warnings below, parted by commas.
const WarningProperty = "cost_warning"

// Warnings about amounts that were taken as 0 or as unknown.
const (
	WarnCacheExceedsInput    = "cache_exceeds_input"    // more cached tokens than input that should include them
	WarnModalityExceedsInput = "modality_exceeds_input" // more audio and image tokens than input
	WarnModalityExceedsTotal = "modality_exceeds_output"
	WarnNegativeCount        = "negative_count"
	WarnNegativeCost         = "negative_cost"
	WarnUnreadableCost       = "unreadable_cost" // a number with thousands of digits
	WarnDeploymentName       = "deployment_name" // the price is of the model that the deployment's name contains
)

// Fall-backs of Anthropic's cache prices, as multiples of the input price, and
// of every other provider's.
var (
	zero              = event.Some(decimal.Zero)
	claudeCacheRead   = decimal.New(1, -1)
	claudeCacheWrite  = decimal.New(125, -2)
	claudeCacheWrite1 = decimal.New(2, 0)
	openAIWrite12h    = decimal.New(25, -1)
	otherCacheRead    = decimal.New(5, -1)
)

// Price sets the event's cost, and what it determined on the way:
// Usage.CacheExclusive, Cost.ModelUsed, Cost.Source and Cost.Provider. Events that
// cannot have a cost, or have been priced, are left unchanged. It does no I/O and is
// safe for concurrent use on different events.
//
// The first rule that applies is used (contract section 4):
//
//  1. The provider's own word, Usage.ReportedCost, unless a total came with the
//     event: the total is it, the parts stay as they are. Source passthrough.
//  2. Input and output costs that came with the event, neither of them 0: the
//     total is the one that came too, or the sum. Source passthrough.
//  3. A total that came with the event, 0 included. Source passthrough. PostHog asks
//     for $ai_cost_passthrough here and fills the parts without it; hedgerow
//     takes a total for an answer either way.
//  4. Prices that came with the event: $ai_input_token_price and
//     $ai_output_token_price, both, in USD per token, and optionally
//     $ai_cache_read_token_price, $ai_cache_write_token_price,
//     $ai_cache_write_1h_token_price, $ai_request_price, $ai_web_search_price.
//     Source custom.
//  5. The row that [Table.Match] finds for the model that answered; an own price
//     or an alias for the model that was asked for wins over it. Source manual,
//     openrouter (synced) or table.
//
// Where none applies, the cost is unknown, never 0. So is a part without a count
// or a rate. What was counted and has no rate, and tokens that are billed and were not
// counted, make the total unknown and are named in Cost.Unpriced: the known parts are
// then the least that the call cost. Otherwise the total is the sum of the known parts.
//
// The row's price is the one of the event's time and of the way in which the call was
// answered: service tier, batch, speed, region, size and quality of pictures. The
// standard price is never taken for a tier that has none: Cost.Unpriced then names
// the tier. See doc.go.
//
// Input: Usage.Input includes cache reads and writes unless CacheExclusive.
// Where that is unknown it becomes true for Anthropic and Claude models, but
// not through OpenRouter, which counts as OpenAI does for all models (PostHog
// charges those twice), and false for all others; for Vercel's SDK the counts
// decide. Cache reads cost the row's rate, or a tenth of the input rate for
// Claude. Others without a rate cost as much as input if the row is of the
// built-in table, which has the providers' discounts, and half of it if it is
// not, as in PostHog; writes cost the row's rates, or 1.25 × (five minutes) and
// 2 × (one hour) the input rate for Claude. Other models' writes are input like
// any other unless their row has a rate for them. Audio and image tokens leave
// the pool of text and cost their own rate, or else that of text.
//
// Output: Usage.Output includes reasoning, which costs nothing extra, except
// where the row has a separate rate for it.
//
// A request price is charged once a call, or $ai_request_count times; not for a
// failed call that used nothing. Searches, sessions, pages, characters, pictures and
// time cost the row's price each; the last four only where that side of the call
// has no tokens, which then are what is billed.
//
// Counts that contradict each other cannot make a cost negative: what would be
// below 0 is taken as 0, and the property [WarningProperty] says so.
func (t *Table) Price(e *event.Event) {
	if !e.IsCall() || e.Cost.Total.Known && e.Cost.Source != "" {
		return
	}
	c := pricing{e: e}
	c.checkCosts()
	c.checkCounts()
	provider := providerOf(e)
	m := t.matchEvent(provider, e)
	c.claude = m.claude
	c.resolveExclusive(provider)
	if c.passThrough() {
		c.warn()
		return
	}
	noteGiven(e)
	switch {
	case c.custom():
	case m.row != nil:
		c.row(m.row)
	}
	t.others(e)
	c.warn()
}

// matchEvent finds the row of the response model. The user's own price or alias
// for the requested model takes precedence over the table's row for the
// response model: a deployment is known by its own name. At Amazon Bedrock the
// requested id has the region of the inference profile, which sets the price;
// Claude's responses have the bare name.
func (t *Table) matchEvent(provider string, e *event.Event) match {
	m := t.match(provider, e.ModelName(), placeOf(provider, e.BaseURL, e.ModelName()))
	bedrock := canonicalProvider(provider) == "amazon-bedrock"
	if e.ModelAsked == "" || e.Model == "" || m.private || len(t.own) == 0 && len(t.aliases) == 0 && !bedrock {
		return m
	}
	if asked := t.match(provider, e.ModelAsked, placeOf(provider, e.BaseURL, e.ModelAsked)); asked.private || bedrock && asked.row != nil {
		return asked
	}
	return m
}

// pricing is the work on one event.
type pricing struct {
	e        *event.Event
	claude   bool
	listed   bool // by the built-in table, which has the providers' discounts
	warnings []string

	// Counts, 0 where unknown.
	input, output, cacheRead                      int64
	write5m, write1h, write12h                    int64
	reasoning, inAudio, outAudio, cacheAudio      int64
	inImage, outImage, cacheImage, inVideo        int64
	outVideo, inText, outText                     int64
	inputKnown, outputKnown, inSide, outSide, exc bool

	unpriced []string // what was counted and has no rate
}

// lacks notes that something was used for which there is no price.
func (c *pricing) lacks(what string) {
	if !slices.Contains(c.unpriced, what) {
		c.unpriced = append(c.unpriced, what)
	}
}

func (c *pricing) note(warning string) {
	if !slices.Contains(c.warnings, warning) {
		c.warnings = append(c.warnings, warning)
	}
}

func (c *pricing) warn() {
	if len(c.warnings) > 0 {
		// A string marshals always.
		_ = c.e.SetProperty(WarningProperty, strings.Join(c.warnings, ","))
	}
}

// checkCosts makes what came with the event safe to add up.
func (c *pricing) checkCosts() {
	cost := &c.e.Cost
	for _, v := range []*USD{&cost.Input, &cost.Output, &cost.Request, &cost.WebSearch, &cost.Tools, &cost.Total, &c.e.Usage.ReportedCost} {
		switch {
		case !v.Known:
		case !sane(v.Value):
			*v = USD{}
			c.note(WarnUnreadableCost)
		case v.Value.IsNegative():
			*v = zero
			c.note(WarnNegativeCost)
		}
	}
}

func (c *pricing) checkCounts() {
	u := &c.e.Usage
	count := func(n event.Int, side *bool) int64 {
		if n.Known {
			*side = true
		}
		if n.Value < 0 && n.Known {
			c.note(WarnNegativeCount)
			return 0
		}
		return n.Or(0)
	}
	c.inputKnown, c.outputKnown = u.Input.Known, u.Output.Known
	c.input = count(u.Input, &c.inSide)
	c.cacheRead = count(u.CacheRead, &c.inSide)
	all := count(u.CacheWrite, &c.inSide)
	c.write5m = count(u.CacheWrite5m, &c.inSide)
	c.write1h = count(u.CacheWrite1h, &c.inSide)
	c.write12h = count(u.CacheWrite12h, &c.inSide)
	// Writes of no stated lifetime are of the default one, five minutes.
	c.write5m = max(c.write5m, all-c.write1h-c.write12h)
	c.inAudio = count(u.InputAudio, &c.inSide)
	c.cacheAudio = min(count(u.CacheReadAudio, &c.inSide), c.inAudio, c.cacheRead)
	c.inImage = count(u.InputImage, &c.inSide)
	c.cacheImage = min(count(u.CacheReadImage, &c.inSide), c.inImage, c.cacheRead-c.cacheAudio)
	c.inVideo = count(u.InputVideo, &c.inSide)
	c.inText = count(u.InputText, &c.inSide)
	c.output = count(u.Output, &c.outSide)
	c.reasoning = count(u.Reasoning, &c.outSide)
	c.outAudio = count(u.OutputAudio, &c.outSide)
	c.outImage = count(u.OutputImage, &c.outSide)
	c.outVideo = count(u.OutputVideo, &c.outSide)
	c.outText = count(u.OutputText, &c.outSide)
	if !c.inputKnown {
		c.input = c.inText + c.inAudio + c.inImage + c.inVideo
	}
}

// resolveExclusive settles whether cached tokens lie outside the input count,
// and writes the answer back.
func (c *pricing) resolveExclusive(provider string) {
	u := &c.e.Usage
	// OpenRouter counts in OpenAI's way: SDKs that go by the model's name are mistaken.
	if c.e.Provider == "openai" && c.e.Source != event.SourceGateway && provider == "openrouter" && c.input >= c.cacheRead+c.write5m+c.write1h {
		u.CacheExclusive = event.Some(false)
	}
	if u.CacheExclusive.Known || !c.inSide {
		c.exc = u.CacheExclusive.Value
		return
	}
	switch {
	case !c.claude, provider == "openrouter":
		c.exc = false
	case (provider == "gateway" || provider == "anthropic") && rawString(c.e.Properties["$ai_framework"]) == "vercel":
		c.exc = c.input < c.cacheRead+c.writes()
	default:
		c.exc = true
	}
	u.CacheExclusive = event.Some(c.exc)
}

// writes are all tokens written to a cache.
func (c *pricing) writes() int64 { return c.write5m + c.write1h + c.write12h }

// passThrough takes over a cost that someone else has worked out.
func (c *pricing) passThrough() bool {
	cost, reported := &c.e.Cost, c.e.Usage.ReportedCost
	nonZero := func(v USD) bool { return v.Known && !v.Value.IsZero() }
	switch {
	case !cost.Total.Known && reported.Known:
		cost.Total = reported
	case nonZero(cost.Input) && nonZero(cost.Output):
		if !nonZero(cost.Total) {
			cost.Total = cost.Sum()
		}
	case !cost.Total.Known:
		return false
	}
	cost.Source = event.CostPassthrough
	return true
}

// custom prices the event by rates that came with it.
func (c *pricing) custom() bool {
	in, out := c.property("$ai_input_token_price"), c.property("$ai_output_token_price")
	if !in.Known || !out.Known {
		return false
	}
	r := Rates{
		Input: in, Output: out,
		CacheRead:    c.property("$ai_cache_read_token_price"),
		CacheWrite:   c.property("$ai_cache_write_token_price"),
		CacheWrite1h: c.property("$ai_cache_write_1h_token_price"),
		Request:      c.property("$ai_request_price"),
		WebSearch:    c.property("$ai_web_search_price"),
	}
	c.compute(&r)
	c.named("custom", "custom", event.CostCustom)
	return true
}

func (c *pricing) row(r *entry) {
	prompt := c.input
	if c.exc {
		prompt += c.cacheRead + c.writes()
	}
	if r.guessed {
		c.note(WarnDeploymentName)
	}
	f := factorsOf(c.e)
	rates, missing := r.ratesAt(&f, c.e.Timestamp, prompt)
	if missing != "" {
		c.e.Cost.Unpriced = missing
		return
	}
	c.listed = r.Origin == event.CostTable
	c.compute(rates)
	c.named(r.Model, r.Provider, r.Origin)
}

// named records where the price is from, if there is one.
func (c *pricing) named(model, provider, source string) {
	if cost := &c.e.Cost; cost.Total.Known || cost.Sum().Known {
		cost.ModelUsed, cost.Provider, cost.Source = model, provider, source
	}
}

// compute fills the parts that did not come with the event, and the total.
func (c *pricing) compute(r *Rates) {
	cost, u := &c.e.Cost, &c.e.Usage
	absent := func(v USD) bool { return !v.Known || v.Value.IsZero() }
	failed := c.e.IsError && !c.inSide && !c.outSide
	if absent(cost.Input) {
		switch {
		case c.inSide:
			cost.Input = c.inputCost(r)
		case !failed:
			cost.Input = c.pieces(piece{"pages", u.Pages, r.Page}, piece{"characters", u.Characters, r.Character})
			if readsSound(c.e) {
				addTo(&cost.Input, c.mediaTime(r))
			}
		}
	}
	if absent(cost.Output) {
		switch {
		case c.outSide:
			cost.Output = c.outputCost(r)
		case !failed:
			cost.Output = c.pieces(piece{"images", u.Images, r.Image})
			if !readsSound(c.e) {
				addTo(&cost.Output, c.mediaTime(r))
			}
		}
	}
	if !cost.Request.Known {
		if r.Request.Known && !failed {
			cost.Request = event.Some(c.requests().Mul(r.Request.Value))
		}
		addTo(&cost.Request, c.pieces(piece{"search_units", u.SearchUnits, r.SearchUnit}))
	}
	if !cost.WebSearch.Known {
		cost.WebSearch = c.pieces(piece{"web_searches", u.WebSearches, r.WebSearch})
	}
	if !cost.Tools.Known {
		cost.Tools = c.pieces(piece{"file_searches", u.FileSearches, r.FileSearch}, piece{"code_sessions", u.CodeSessions, r.CodeSession})
	}
	if c.e.Usage.OutputEstimated.Known && !c.outputKnown {
		c.lacks("output_tokens") // they are billed, and only estimated
	}
	total := cost.Sum()
	if total.Known {
		c.uncounted(r)
	}
	if len(c.unpriced) > 0 {
		cost.Unpriced = strings.Join(c.unpriced, ",")
		return
	}
	cost.Total = total
}

// uncounted notes the sides of a call that are billed by tokens and whose tokens are
// not known: the other parts are the least that it cost. An embedding has no output.
func (c *pricing) uncounted(r *Rates) {
	u, cost := &c.e.Usage, &c.e.Cost
	billed := func(rate USD) bool { return rate.Known && !rate.Value.IsZero() }
	if billed(r.Input) && !c.inputKnown && (c.inSide || !cost.Input.Known) && !u.InputText.Known && c.inAudio+c.inImage+c.inVideo == 0 {
		c.lacks("input_tokens")
	}
	if billed(r.Output) && !c.outputKnown && (c.outSide || !cost.Output.Known) && !u.OutputText.Known && c.outAudio+c.outImage+c.outVideo == 0 && c.e.Name != event.Embedding {
		c.lacks("output_tokens")
	}
}

// piece is something that is counted and billed by the piece.
type piece struct {
	name  string
	count event.Int
	rate  USD
}

// pieces adds up what is billed by the piece. What was not counted costs nothing
// that is known; what was counted and has no rate has no known cost.
func (c *pricing) pieces(list ...piece) (total USD) {
	for _, p := range list {
		if !p.count.Known {
			continue
		}
		n := p.count.Value
		if n < 0 {
			c.note(WarnNegativeCount)
			n = 0
		}
		switch {
		case p.rate.Known:
			addTo(&total, event.Some(times(n, p.rate.Value)))
		case n > 0:
			c.lacks(p.name)
		}
	}
	return total
}

// mediaTime is the price of sound or video by its length. Its last digit is the
// store's: 18 after the point.
func (c *pricing) mediaTime(r *Rates) USD {
	d := c.e.Usage.MediaTime
	switch {
	case !d.Known:
		return USD{}
	case r.Hour.Known:
		return event.Some(decimal.NewFromInt(int64(d.Value)).Mul(r.Hour.Value).DivRound(hour, 18))
	case d.Value > 0:
		c.lacks("media_time")
	}
	return USD{}
}

var hour = decimal.NewFromInt(int64(time.Hour))

// readsSound reports whether the sound of a call is its input; of all others it is
// what they made.
func readsSound(e *event.Event) bool {
	return e.Operation == "transcriptions" || e.Operation == "translations"
}

func addTo(sum *USD, v USD) {
	switch {
	case !v.Known:
	case !sum.Known:
		*sum = v
	default:
		sum.Value = sum.Value.Add(v.Value)
	}
}

func (c *pricing) inputCost(r *Rates) USD {
	if !r.Input.Known {
		if c.input+c.cacheRead+c.writes() > 0 {
			c.lacks("input_tokens")
		}
		return USD{}
	}
	in := r.Input.Value
	text := c.input - c.inAudio - c.inImage - c.inVideo
	if text < 0 {
		c.note(WarnModalityExceedsInput)
		text = 0
	}
	cachedText := c.cacheRead - c.cacheAudio - c.cacheImage
	writes := c.writes()
	apart := c.claude || r.CacheWrite.Known // writes have a price of their own
	if !c.exc {
		text -= cachedText
		if apart {
			text -= writes
		}
	} else if !apart {
		text += writes
	}
	if text < 0 {
		// Without an input count there is nothing that could hold the cached tokens.
		if c.inputKnown {
			c.note(WarnCacheExceedsInput)
		}
		text = 0
	}
	total := times(text, in)
	var saved decimal.Decimal
	if cachedText > 0 {
		total = total.Add(times(cachedText, c.cacheReadRate(r)))
		saved = times(cachedText, in.Sub(c.cacheReadRate(r)))
	}
	if apart && c.write5m > 0 {
		total = total.Add(times(c.write5m, orTimes(r.CacheWrite, in, claudeCacheWrite)))
	}
	if apart && c.write1h > 0 {
		rate := r.CacheWrite1h
		if !rate.Known && !c.claude {
			rate = r.CacheWrite
		}
		total = total.Add(times(c.write1h, orTimes(rate, in, claudeCacheWrite1)))
	}
	if apart && c.write12h > 0 {
		total = total.Add(times(c.write12h, orTimes(r.CacheWrite12h, in, openAIWrite12h)))
	}
	if c.inAudio > 0 {
		total = total.Add(times(c.inAudio-c.cacheAudio, r.InputAudio.Or(in)))
		if c.cacheAudio > 0 {
			total = total.Add(times(c.cacheAudio, c.cacheAudioRate(r)))
			saved = saved.Add(times(c.cacheAudio, r.InputAudio.Or(in).Sub(c.cacheAudioRate(r))))
		}
	}
	if c.inImage > 0 {
		image := r.InputImage.Or(in)
		total = total.Add(times(c.inImage-c.cacheImage, image))
		if c.cacheImage > 0 {
			cached := r.CacheReadImage.Or(c.cacheReadRate(r))
			total = total.Add(times(c.cacheImage, cached))
			saved = saved.Add(times(c.cacheImage, image.Sub(cached)))
		}
	}
	if c.inVideo > 0 {
		total = total.Add(times(c.inVideo, r.InputVideo.Or(in)))
	}
	if c.e.Usage.CacheRead.Known {
		c.e.Cost.CacheSaved = event.Some(decimal.Max(saved, decimal.Zero))
	}
	return event.Some(total)
}

func (c *pricing) cacheReadRate(r *Rates) decimal.Decimal {
	if c.claude {
		return orTimes(r.CacheRead, r.Input.Value, claudeCacheRead)
	}
	if c.listed {
		return r.CacheRead.Or(r.Input.Value)
	}
	return orTimes(r.CacheRead, r.Input.Value, otherCacheRead)
}

func (c *pricing) cacheAudioRate(r *Rates) decimal.Decimal {
	switch {
	case r.CacheReadAudio.Known:
		return r.CacheReadAudio.Value
	case c.listed:
		return r.CacheRead.Or(r.InputAudio.Or(r.Input.Value))
	}
	return orTimes(r.CacheRead, r.Input.Value, otherCacheRead)
}

func (c *pricing) outputCost(r *Rates) USD {
	var text int64
	switch {
	case c.outputKnown: // the count of text leaves the thoughts out, at Google and elsewhere
		text = c.output - c.outAudio - c.outImage - c.outVideo
	case c.e.Usage.OutputText.Known:
		text = c.outText
	default:
		text = c.reasoning
	}
	if text < 0 {
		c.note(WarnModalityExceedsTotal)
		text = 0
	}
	if !r.Output.Known {
		if text > 0 || c.outAudio > 0 && !r.OutputAudio.Known || c.outImage > 0 && !r.OutputImage.Known || c.outVideo > 0 && !r.OutputVideo.Known {
			c.lacks("output_tokens")
			return USD{}
		}
		if c.outAudio+c.outImage+c.outVideo == 0 {
			return USD{} // an embedding has no output to price
		}
	}
	out := r.Output.Value
	thought := int64(0) // at a rate of its own
	if r.Reasoning.Known {
		thought = min(c.reasoning, text)
	}
	total := times(text-thought, out)
	if thought > 0 {
		total = total.Add(times(thought, r.Reasoning.Value))
	}
	if c.outAudio > 0 {
		total = total.Add(times(c.outAudio, r.OutputAudio.Or(out)))
	}
	if c.outImage > 0 {
		total = total.Add(times(c.outImage, r.OutputImage.Or(out)))
	}
	if c.outVideo > 0 {
		total = total.Add(times(c.outVideo, r.OutputVideo.Or(out)))
	}
	return event.Some(total)
}

// requests is how many requests the event represents.
func (c *pricing) requests() decimal.Decimal {
	if n := c.property("$ai_request_count"); n.Known {
		return n.Value
	}
	return decimal.NewFromInt(1)
}

// property reads a number among the event's own properties.
func (c *pricing) property(name string) USD {
	raw, ok := c.e.Properties[name]
	if !ok {
		return USD{}
	}
	d, ok := parseDecimal(strings.Trim(string(raw), `"`))
	if !ok {
		return USD{}
	}
	if d.IsNegative() {
		c.note(WarnNegativeCost)
		return zero
	}
	return event.Some(d)
}

func times(n int64, rate decimal.Decimal) decimal.Decimal {
	if n == 0 {
		return decimal.Zero
	}
	return decimal.NewFromInt(n).Mul(rate)
}

// orTimes is the rate or, if it is unknown, a multiple of another.
func orTimes(rate USD, base, factor decimal.Decimal) decimal.Decimal {
	if rate.Known {
		return rate.Value
	}
	return base.Mul(factor)
}

func rawString(raw json.RawMessage) string {
	var s string
	if raw == nil || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
