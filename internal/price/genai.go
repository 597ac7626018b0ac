package price

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// GenAIFeed is where pydantic/genai-prices (MIT) publishes its data: the form
// that [ParseGenAI] reads. prices/data.json, in the same folder, no longer
// changes.
const GenAIFeed = "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json"

// genaiProviders are the ids of genai-prices that hedgerow names otherwise.
var genaiProviders = map[string]string{"aws": "amazon-bedrock", "x-ai": "xai", "moonshotai": "moonshot", "voyageai": "voyage", "zhipuai": "zhipuai"}

// genaiKinds are its kinds of prices. Its unit is the end of the key: see genaiUnits.
// cache_write is of the default lifetime. Annotated pages are a variant. What is not
// here has no count on an event, and is left out: citations, messages.
var genaiKinds = map[string]func(*Rates) *USD{
	"input_mtok": func(r *Rates) *USD { return &r.Input }, "output_mtok": func(r *Rates) *USD { return &r.Output },
	"cache_read_mtok": func(r *Rates) *USD { return &r.CacheRead }, "cache_write_mtok": func(r *Rates) *USD { return &r.CacheWrite },
	"cache_write_5m_mtok": func(r *Rates) *USD { return &r.CacheWrite }, "cache_write_1h_mtok": func(r *Rates) *USD { return &r.CacheWrite1h },
	"output_reasoning_mtok": func(r *Rates) *USD { return &r.Reasoning },
	"input_audio_mtok":      func(r *Rates) *USD { return &r.InputAudio }, "output_audio_mtok": func(r *Rates) *USD { return &r.OutputAudio },
	"cache_audio_read_mtok": func(r *Rates) *USD { return &r.CacheReadAudio },
	"input_image_mtok":      func(r *Rates) *USD { return &r.InputImage }, "output_image_mtok": func(r *Rates) *USD { return &r.OutputImage },
	"cache_image_read_mtok": func(r *Rates) *USD { return &r.CacheReadImage },
	"input_video_mtok":      func(r *Rates) *USD { return &r.InputVideo }, "output_video_mtok": func(r *Rates) *USD { return &r.OutputVideo },
	"requests_kcount": func(r *Rates) *USD { return &r.Request }, "web_searches_kcount": func(r *Rates) *USD { return &r.WebSearch },
	"storage_searches_kcount": func(r *Rates) *USD { return &r.FileSearch }, "rerank_searches_kcount": func(r *Rates) *USD { return &r.SearchUnit },
	"audio_hours": func(r *Rates) *USD { return &r.Hour }, "input_audio_hours": func(r *Rates) *USD { return &r.Hour },
	"input_mchars": func(r *Rates) *USD { return &r.Character }, "input_document_kpages": func(r *Rates) *USD { return &r.Page },
}

// genaiUnits are the powers of ten of its units.
var genaiUnits = []struct {
	end   string
	shift int32
}{{"_mtok", 6}, {"_kcount", 3}, {"_mchars", 6}, {"_kpages", 3}, {"_hours", 0}}

// The form of the feed.
type (
	genaiProvider struct {
		ID     string       `json:"id"`
		Models []genaiModel `json:"models"`
	}
	genaiModel struct {
		ID       string          `json:"id"`
		Match    genaiClause     `json:"match"`
		Prices   json.RawMessage `json:"prices"`
		Variants []struct {
			When       map[string]string          `json:"when"`
			Prices     map[string]json.RawMessage `json:"prices"`
			Constraint *genaiConstraint           `json:"constraint"`
		} `json:"price_variants"`
	}
	genaiClause struct {
		Or         []genaiClause `json:"or"`
		And        []genaiClause `json:"and"`
		Equals     string        `json:"equals"`
		StartsWith string        `json:"starts_with"`
		EndsWith   string        `json:"ends_with"`
		Contains   string        `json:"contains"`
	}
	genaiConstraint struct {
		StartDate string `json:"start_date"`
		StartTime string `json:"start_time"`
		EndTime   string `json:"end_time"`
	}
)

// ParseGenAI reads prices in the form of genai-prices' feed, new_data/v2/data.json.
// The rows are sorted by provider and keep the source's order within it, without
// source and date.
//
// Its rules for names become names: what a model's name may equal, begin or end with,
// or contain is one more name of it, to which the grammar of [Table.Match] applies.
// Expressions are left out: all of them allow for dates, which the grammar does, too. So
// nothing is found inside longer names here either.
//
// A row's own prices are those of now; earlier and later ones are its periods.
//
// A price of 0 is taken as it is: the source has none where it does not know. Models
// without a price that an event can have are left out.
//
// Errors are [*event.Error]: what was read is not such a list, has no price, or has
// one that is absurd.
func ParseGenAI(r io.Reader, now time.Time) ([]Row, error) {
	const hint = "give the address or a saved copy of " + GenAIFeed
	var list []genaiProvider
	dec := json.NewDecoder(r)
	if err := dec.Decode(&list); err != nil {
		if e := (*event.Error)(nil); errors.As(err, &e) {
			return nil, err
		}
		return nil, event.NewError(event.CodeInvalid, "the list of prices is not in the form of genai-prices", hint, err)
	}
	var rows []Row
	for _, p := range list {
		provider := cmp.Or(genaiProviders[p.ID], canonicalProvider(p.ID))
		if provider == "" {
			continue
		}
		for _, m := range p.Models {
			row, err := m.row(now)
			if err != nil {
				return nil, event.NewError(event.CodeInvalid, fmt.Sprintf("the price of %.80q of %.80q cannot be read: %v", m.ID, p.ID, err), hint, err)
			}
			if provider == "openrouter" {
				row.Rates.tidy(row.Rates)
			}
			if row.Provider = provider; row.Rates != (Rates{}) {
				rows = append(rows, row)
			}
		}
	}
	if len(rows) == 0 {
		return nil, event.Invalid("no model in the list has a price", hint)
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return strings.Compare(a.Provider, b.Provider) })
	return rows, nil
}

func (m *genaiModel) row(now time.Time) (Row, error) {
	r := Row{Model: withoutPath(strings.TrimSpace(m.ID))}
	if r.Model == "" || len(r.Model) > maxName {
		return r, errors.New("it has no name")
	}
	seen := map[string]bool{nameKey(r.Model): true}
	m.Match.names(func(name string) {
		name = strings.Trim(strings.TrimSpace(name), "-@")
		if i := strings.LastIndexByte(name, '-'); i > 0 && len(name)-i == 5 && digits(name[i+1:]) && name[i+1:i+3] == "20" {
			name = name[:i] // "claude-sonnet-4-2025", the beginning of dates
		}
		if name != "" && len(name) <= maxName && !seen[nameKey(name)] {
			seen[nameKey(name)] = true
			r.Aliases = append(r.Aliases, name)
		}
	})
	var conditional []struct {
		Constraint *genaiConstraint           `json:"constraint"`
		Prices     map[string]json.RawMessage `json:"prices"`
	}
	var err error
	if strings.HasPrefix(strings.TrimSpace(string(m.Prices)), "[") {
		if err = json.Unmarshal(m.Prices, &conditional); err != nil {
			return r, err
		}
	} else {
		var one map[string]json.RawMessage
		if err = json.Unmarshal(m.Prices, &one); err != nil {
			return r, err
		}
		if r.Rates, r.Tiers, err = genaiPrices(one); err == nil {
			err = r.annotated("", time.Time{}, one)
		}
		if err != nil {
			return r, err
		}
	}
	var dated, hours []Period
	for _, c := range conditional {
		var p Period
		if p.Rates, p.Tiers, err = genaiPrices(c.Prices); err != nil {
			return r, err
		}
		if p.From, p.Start, p.End, err = c.Constraint.when(); err != nil {
			return r, err
		}
		if p.Start == p.End {
			if err = r.annotated("", p.From, c.Prices); err != nil {
				return r, err
			}
		}
		if p.Start != p.End {
			hours = append(hours, p)
		} else {
			dated = append(dated, p)
		}
	}
	switch {
	case len(dated) > 0:
		current := 0
		for i, p := range dated {
			if !p.From.After(now) {
				current = i
			}
		}
		r.Rates, r.Tiers = dated[current].Rates, dated[current].Tiers
		for i, p := range dated {
			if i < current {
				p.To = dated[i+1].From
			}
			if i != current {
				r.Periods = append(r.Periods, p)
			}
		}
	case len(hours) > 0: // the first is also the price where none holds
		r.Rates, r.Tiers = hours[0].Rates, hours[0].Tiers
	}
	r.Periods = append(r.Periods, hours...)
	for _, v := range m.Variants {
		variant := Variant{When: genaiWhen(v.When)}
		if variant.When == "" {
			continue
		}
		if variant.Rates, variant.Tiers, err = genaiPrices(v.Prices); err != nil {
			return r, err
		}
		var start, end time.Duration
		if variant.From, start, end, err = v.Constraint.when(); err != nil {
			return r, err
		}
		if start == end {
			if err = r.annotated("&"+variant.When, variant.From, v.Prices); err != nil {
				return r, err
			}
			r.Variants = append(r.Variants, variant)
		}
	}
	// The most exact condition decides, then the latest.
	slices.SortStableFunc(r.Variants, func(a, b Variant) int {
		return cmp.Or(cmp.Compare(strings.Count(b.When, "&"), strings.Count(a.When, "&")), b.From.Compare(a.From))
	})
	return r, nil
}

// annotated adds the price of an annotated page as a variant.
func (r *Row) annotated(when string, from time.Time, prices map[string]json.RawMessage) error {
	const key = "input_annotated_document_kpages"
	raw := prices[key]
	if raw == nil || string(raw) == "null" {
		return nil
	}
	price, err := genaiPrice(key, raw)
	r.Variants = append(r.Variants, Variant{When: keyPages + "=annotated" + when, From: from, Rates: Rates{Page: price}})
	return err
}

// names calls f with each name under which the model is known.
func (c *genaiClause) names(f func(string)) {
	for _, s := range []string{c.Equals, c.StartsWith, c.EndsWith, c.Contains} {
		if s != "" {
			f(withoutPath(s))
		}
	}
	for _, list := range [][]genaiClause{c.Or, c.And} {
		for i := range list {
			list[i].names(f)
		}
	}
}

// withoutPath takes off what the grammar of names takes off, too.
func withoutPath(s string) string {
	for _, path := range []string{"/", "accounts/fireworks/models/", "accounts/fireworks/routers/"} {
		s = strings.TrimPrefix(s, path)
	}
	return s
}

func (c *genaiConstraint) when() (from time.Time, start, end time.Duration, err error) {
	if c == nil {
		return from, 0, 0, nil
	}
	if c.StartDate != "" {
		from, err = time.Parse(time.DateOnly, c.StartDate)
		return from, 0, 0, err
	}
	if start, err = genaiClock(c.StartTime); err == nil {
		end, err = genaiClock(c.EndTime)
	}
	if err == nil && start == end {
		err = errors.New("a time of the day without a length")
	}
	return from, start, end, err
}

// genaiClock is a time of the day with a zone, "00:30:00Z" or "00:30:00+00:00", in UTC.
func genaiClock(s string) (time.Duration, error) {
	for _, layout := range []string{"15:04:05Z07:00", "15:04:05", "15:04Z07:00", "15:04"} {
		if t, err := time.Parse(layout, s); err == nil {
			t = t.UTC()
			return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
		}
	}
	return 0, fmt.Errorf("a time of the day is %.20q", s)
}

// genaiWhen is a variant's condition. Its word for the usual tier changes nothing, and
// conditions of which an event says nothing (the route of a router, the kind of a
// search) are "".
func genaiWhen(when map[string]string) string {
	var parts []string
	for key, value := range when {
		if key != keyTier && key != keyProcessing && key != keySpeed || standardTiers[lower(value)] {
			return ""
		}
		parts = append(parts, key+"="+lower(value))
	}
	slices.Sort(parts)
	return strings.Join(parts, "&")
}

// genaiPrices reads one set of prices. There a price is a number, or {base, tiers}
// with tiers of its own; here a tier has all the rates that it changes.
func genaiPrices(prices map[string]json.RawMessage) (r Rates, tiers []Tier, err error) {
	type step struct {
		above int64
		at    func(*Rates) *USD
		price USD
	}
	var steps []step
	for key, raw := range prices {
		at := genaiKinds[key]
		if at == nil || string(raw) == "null" {
			continue
		}
		var tiered struct {
			Base  json.RawMessage `json:"base"`
			Tiers []struct {
				Start int64           `json:"start"`
				Price json.RawMessage `json:"price"`
			} `json:"tiers"`
		}
		base := raw
		if raw[0] == '{' {
			if err := json.Unmarshal(raw, &tiered); err != nil {
				return r, nil, err
			}
			base = tiered.Base
		}
		price, err := genaiPrice(key, base)
		if err != nil {
			return r, nil, err
		}
		if key == "audio_hours" && prices["input_audio_hours"] != nil {
			continue // the same hours, of which the other price is the exact one
		}
		*at(&r) = price
		for _, t := range tiered.Tiers {
			price, err := genaiPrice(key, t.Price)
			if err != nil {
				return r, nil, err
			}
			if t.Start <= 0 {
				return r, nil, fmt.Errorf("a tier begins at %d", t.Start)
			}
			steps = append(steps, step{t.Start, at, price})
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.above, b.above) })
	for _, s := range steps {
		if n := len(tiers); n == 0 || tiers[n-1].Above != s.above {
			next := Tier{Above: s.above}
			if n > 0 { // a kind without a step here stays on the one below
				next.Rates = tiers[n-1].Rates
			}
			tiers = append(tiers, next)
		}
		*s.at(&tiers[len(tiers)-1].Rates) = s.price
	}
	return r, tiers, nil
}

func genaiPrice(key string, raw json.RawMessage) (USD, error) {
	d, ok := parseDecimal(strings.Trim(string(raw), `"`))
	if !ok {
		return USD{}, fmt.Errorf("%s is %.40s", key, strconv.Quote(string(raw)))
	}
	limit := maxPerUse
	for _, u := range genaiUnits {
		if strings.HasSuffix(key, u.end) {
			d = d.Shift(-u.shift)
			if u.shift == 6 {
				limit = maxPerToken
			}
		}
	}
	return event.Some(d), checkPrice(key, event.Some(d), limit, "")
}
