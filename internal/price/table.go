package price

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// The built-in prices: see doc.go. Each file is written by "make prices" but the
// last, which is written by hand.
var (
	//go:embed genai.json
	genaiFile []byte
	//go:embed litellm.json
	litellmFile []byte
	//go:embed corrections.json
	correctionsFile []byte
)

// Table finds the price of a model. It never changes and is safe for concurrent
// use; take a new one from [Table.With] and its like to change a price.
type Table struct {
	layers  layers
	synced  map[string][]Row // by provider
	own     []Row
	aliases map[string]map[string]string // provider → key of a deployment → public model

	ownIndex index
	matches  matchCache

	mu    sync.RWMutex
	ready index // of the providers that were asked for
}

// layers are the rows from which a provider's prices are made.
type layers struct {
	base        *sheet // genai-prices, as built in
	refreshed   *sheet // the same, newer; nil: none
	fill        *sheet // LiteLLM, for what is not there
	corrections *sheet // hedgerow's own
}

// index finds rows by canonical provider and [nameKey].
type index map[string]map[string]*entry

// entry is a row made ready for use.
type entry struct {
	Row
	ready []Tier // Row.Tiers, each with every rate that applies

	guessed bool // found by what a deployment's name contains
}

// Default returns the table that hedgerow carries.
var Default = sync.OnceValue(func() *Table {
	t := &Table{layers: layers{base: newSheet(genaiFile), fill: newSheet(litellmFile), corrections: newSheet(correctionsFile)}}
	t.build()
	return t
})

// With returns a table in which own prices win over every other. A row without
// provider holds for all providers. Rows are matched by name, alias and dated
// name like the table's, and by the last part of a path: own model
// "my-finetune" is also "acme/my-finetune".
func (t *Table) With(rows ...Row) *Table {
	c := t.clone()
	for _, r := range rows {
		r.Provider, r.Origin = canonicalProvider(r.Provider), event.CostManual
		c.own = append(c.own, r)
	}
	c.build()
	return c
}

// WithRefreshed returns a table with o's rows, in the form of [ParseGenAI], over the
// built-in ones of the same source: each replaces what it states. A model, a rate or a
// variant that only the built-in ones have keeps its price; hedgerow's corrections and
// LiteLLM's additions hold for both.
func (t *Table) WithRefreshed(o Overlay) *Table {
	c := t.clone()
	c.layers.refreshed = sheetOf(o)
	c.build()
	return c
}

// Builtin returns the built-in rows of genai-prices, sorted by provider, without
// corrections and additions.
func (t *Table) Builtin() (rows []Row) {
	for _, p := range t.layers.base.providers() {
		rows = append(rows, t.layers.base.of(p)...)
	}
	return rows
}

// Dates are the days on which the prices of genai-prices were current: of those
// that are built in, and of those in use.
func (t *Table) Dates() (builtin, inUse time.Time) {
	builtin = t.layers.base.date
	if r := t.layers.refreshed; r != nil {
		return builtin, r.date
	}
	return builtin, builtin
}

// WithSynced returns a table with o's rows in place of any synced before. For
// each model the newer of the synced and the other row decides, by their
// dates; on the same day the synced one. It replaces the prices that it states. What
// only the other row states stays, such as prices of batches, and [Row.Kept] names its
// source.
//
// OpenRouter charges what the vendor does, so a row "openai/gpt-4.1-mini" of
// OpenRouter also renews the row gpt-4.1-mini of OpenAI, and one of a vendor
// whose models are not available elsewhere adds it.
func (t *Table) WithSynced(o Overlay) *Table {
	c := t.clone()
	c.synced = make(map[string][]Row)
	for _, r := range o.Rows {
		r.Provider, r.Origin = canonicalProvider(r.Provider), event.CostSynced
		if r.Date.IsZero() {
			r.Date = o.Date
		}
		if r.Source == "" {
			r.Source = o.Source
		}
		c.synced[r.Provider] = append(c.synced[r.Provider], r)
		if v, ok := vendorRow(r); ok {
			c.synced[v.Provider] = append(c.synced[v.Provider], v)
		}
	}
	c.build()
	return c
}

// WithAliases returns a table in which names of deployments refer to public
// models, for one provider (azure), or for all where provider is "".
func (t *Table) WithAliases(provider string, models map[string]string) *Table {
	c := t.clone()
	provider = canonicalProvider(provider)
	merged := make(map[string]string, len(models))
	for name, model := range t.aliases[provider] {
		merged[name] = model
	}
	for name, model := range models {
		merged[nameKey(name)] = model
	}
	c.aliases = make(map[string]map[string]string, len(t.aliases)+1)
	for p, m := range t.aliases {
		c.aliases[p] = m
	}
	c.aliases[provider] = merged
	c.build()
	return c
}

// Rows returns the rows that decide, sorted by provider and model; own prices
// first.
func (t *Table) Rows() []Row {
	var rows []Row
	for _, x := range []index{t.ownIndex, t.all()} {
		first := len(rows)
		seen := make(map[*entry]bool)
		for _, byName := range x {
			for _, e := range byName {
				if !seen[e] {
					seen[e] = true
					rows = append(rows, e.Row)
				}
			}
		}
		slices.SortFunc(rows[first:], func(a, b Row) int {
			return cmp.Or(strings.Compare(a.Provider, b.Provider), strings.Compare(a.Model, b.Model))
		})
	}
	return rows
}

func (t *Table) clone() *Table {
	return &Table{layers: t.layers, synced: t.synced, own: slices.Clone(t.own), aliases: t.aliases}
}

func (t *Table) build() {
	t.ownIndex, t.ready = make(index), make(index)
	own := make(map[string]*section)
	for _, r := range t.own {
		s := own[r.Provider]
		if s == nil {
			s = &section{names: make(map[string]int)}
			own[r.Provider] = s
		}
		s.add(r)
	}
	for provider, s := range own {
		t.ownIndex[provider] = s.entries()
	}
}

// knows reports whether there are prices of a provider.
func (t *Table) knows(provider string) bool {
	for _, s := range t.layers.list() {
		if s.has(provider) {
			return true
		}
	}
	return len(t.synced[provider]) > 0
}

func (l *layers) list() []*sheet {
	list := []*sheet{l.base, l.fill, l.corrections}
	if l.refreshed != nil {
		list = append(list, l.refreshed)
	}
	return list
}

// all has every provider.
func (t *Table) all() index {
	x := make(index)
	for _, s := range t.layers.list() {
		for _, p := range s.providers() {
			x[p] = t.of(p)
		}
	}
	for p := range t.synced {
		x[p] = t.of(p)
	}
	return x
}

// of finds a provider's rows by name. They are read when they are first asked for:
// most programs call few providers.
func (t *Table) of(provider string) map[string]*entry {
	t.mu.RLock()
	m, ok := t.ready[provider]
	t.mu.RUnlock()
	if ok || !t.knows(provider) {
		return m
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if m, ok = t.ready[provider]; !ok {
		m = t.section(provider)
		t.ready[provider] = m
	}
	return m
}

// section makes a provider's rows of all layers.
func (t *Table) section(provider string) map[string]*entry {
	s := section{names: make(map[string]int)}
	l := &t.layers
	if l.refreshed != nil {
		for _, r := range l.refreshed.of(provider) {
			s.add(r)
		}
	}
	for _, r := range l.base.of(provider) {
		switch i := s.find(r.Model); {
		case l.refreshed == nil || i < 0:
			s.add(r)
		case nameKey(s.rows[i].Model) == nameKey(r.Model):
			is := s.rows[i].renew(r, true)
			is.Aliases = slices.Clone(is.Aliases)
			for _, name := range r.Aliases {
				if s.find(name) < 0 {
					is.Aliases = append(is.Aliases, name)
				}
			}
			s.replace(i, is)
		}
	}
	for _, r := range l.fill.of(provider) {
		i := s.find(r.Model)
		switch {
		case i < 0:
			s.add(r)
		case nameKey(s.rows[i].Model) != nameKey(r.Model) && regional(r) && conflict(s.rows[i], r):
			s.claim(r)
		case l.moved(provider, s.rows[i].Model): // it was more of the price of before
			s.rows[i] = s.rows[i].renew(r, true)
		default:
			s.rows[i] = s.rows[i].Merge(r)
		}
	}
	var every *Row
	for _, r := range l.corrections.of(provider) {
		if r.Model == "*" {
			every = &r
			continue
		}
		i := s.find(r.Model)
		if i < 0 || nameKey(s.rows[i].Model) != nameKey(r.Model) {
			s.claim(r)
			continue
		}
		old, more := s.rows[i], r.Aliases
		if l.moved(provider, r.Model) {
			r = old.renew(r, true)
		} else {
			r = r.renew(old, false)
			r.Model, r.Aliases = old.Model, append(slices.Clone(old.Aliases), more...)
		}
		s.replace(i, r)
		s.take(i, more)
	}
	for _, r := range t.synced[provider] {
		i := s.find(r.Model)
		if i < 0 {
			s.add(r)
			continue
		}
		old := s.rows[i]
		switch {
		case r.Date.Before(old.Date):
		case nameKey(old.Model) == nameKey(r.Model):
			r = r.renew(old, false)
			r.Model, r.Aliases = old.Model, append(slices.Clone(old.Aliases), r.Aliases...) // in the vendor's own spelling
			s.replace(i, r)
		default: // a row of the name beats another's alias
			s.add(r.renew(old, false))
		}
	}
	if every != nil {
		for i := range s.rows {
			r := &s.rows[i]
			*r = r.withKept(*every, missing(*r, Row{Rates: every.Rates, Variants: every.Variants}))
			r.Rates = r.Rates.over(every.Rates)
			r.Variants = addVariants(r.Variants, every.Variants, false)
		}
	}
	return s.entries()
}

// moved reports whether the feed says something else of a model than the built-in prices
// from it, for which the corrections were made. It then has what they correct, or newer
// prices.
func (l *layers) moved(provider, model string) bool {
	if l.refreshed == nil {
		return false
	}
	find := func(rows []Row) int {
		return slices.IndexFunc(rows, func(r Row) bool { return nameKey(r.Model) == nameKey(model) })
	}
	was, is := l.base.of(provider), l.refreshed.of(provider)
	i, j := find(was), find(is)
	return i >= 0 && j >= 0 && !samePrices(was[i], is[j])
}

// entries makes the rows ready, by name.
func (s *section) entries() map[string]*entry {
	list := make([]*entry, len(s.rows))
	for i, r := range s.rows {
		list[i] = newEntry(r)
	}
	m := make(map[string]*entry, len(s.names))
	for name, i := range s.names {
		m[name] = list[i]
	}
	return m
}

// section collects the rows of one provider, each under its names. An alias of
// two rows belongs to the first.
type section struct {
	rows  []Row
	names map[string]int
}

func (s *section) find(model string) int {
	if i, ok := s.names[nameKey(model)]; ok {
		return i
	}
	return -1
}

func (s *section) add(r Row) {
	s.rows = append(s.rows, r)
	s.replace(len(s.rows)-1, r)
}

func (s *section) replace(i int, r Row) {
	s.rows[i] = r
	s.names[nameKey(r.Model)] = i
	for _, alias := range r.Aliases {
		if _, taken := s.names[nameKey(alias)]; !taken {
			s.names[nameKey(alias)] = i
		}
	}
}

// claim adds a row whose names beat another's aliases.
func (s *section) claim(r Row) {
	s.take(len(s.rows), append([]string{r.Model}, r.Aliases...))
	s.add(r)
}

// take assigns names to a row, and removes them from others.
func (s *section) take(i int, names []string) {
	for _, name := range names {
		key := nameKey(name)
		if j, taken := s.names[key]; taken && j != i {
			had := &s.rows[j]
			had.Aliases = slices.DeleteFunc(slices.Clone(had.Aliases), func(a string) bool { return nameKey(a) == key })
			if nameKey(had.Model) == key && len(had.Aliases) > 0 {
				had.Model, had.Aliases = had.Aliases[0], had.Aliases[1:]
			}
		}
		s.names[key] = i
	}
}

// with has the rates of every in place of r's.
func (r Row) with(every *Row) Row {
	r.Rates, r.Tiers, r.Periods = every.Rates.over(r.Rates), slices.Clone(r.Tiers), slices.Clone(r.Periods)
	for i := range r.Tiers {
		r.Tiers[i].Rates = every.Rates.over(r.Tiers[i].Rates)
	}
	for i := range r.Periods {
		r.Periods[i].Rates = every.Rates.over(r.Periods[i].Rates)
	}
	return r
}

func newEntry(r Row) *entry {
	e := &entry{Row: r, ready: complete(r.Tiers, r.Rates)}
	e.Periods, e.Variants = slices.Clone(r.Periods), slices.Clone(r.Variants)
	for i := range e.Periods {
		e.Periods[i].Tiers = complete(e.Periods[i].Tiers, e.Periods[i].Rates)
	}
	for i := range e.Variants {
		e.Variants[i].Tiers = complete(e.Variants[i].Tiers, e.Variants[i].Rates)
	}
	return e
}

// complete gives each tier the rates that it does not name.
func complete(tiers []Tier, base Rates) []Tier {
	var list []Tier
	for _, t := range tiers {
		t.Rates = t.Rates.over(base)
		list = append(list, t)
	}
	return list
}

// vendorRow is the vendor's own row that a row of OpenRouter describes.
func vendorRow(r Row) (Row, bool) {
	if r.Provider != "openrouter" {
		return Row{}, false
	}
	vendor, model, ok := strings.Cut(r.Model, "/")
	if !ok || strings.ContainsRune(model, ':') {
		return Row{}, false
	}
	vendor = canonicalProvider(vendor)
	prefixes, ok := closedModels[vendor]
	if !ok {
		return Row{}, false
	}
	if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(model, p) }) {
		return Row{}, false
	}
	r.Provider, r.Model = vendor, model
	if vendor == "google" { // what OpenRouter adds for storage
		r.CacheWrite, r.Tiers = USD{}, slices.Clone(r.Tiers)
		for i := range r.Tiers {
			r.Tiers[i].CacheWrite = USD{}
		}
	}
	return r, true
}

// closedModels names, by prefix, the models that only their vendor serves, so
// that OpenRouter's price for them is the vendor's. Open models are not listed:
// what OpenRouter charges for them is the host's price.
var closedModels = map[string][]string{
	"openai":     {"gpt-3", "gpt-4", "gpt-5", "gpt-6", "gpt-audio", "gpt-chat", "chatgpt", "o1", "o3", "o4", "codex"},
	"anthropic":  {"claude"},
	"google":     {"gemini"},
	"xai":        {"grok"},
	"perplexity": {"sonar"},
	"cohere":     {"command"},
}

// matchCache remembers which row a provider and a model lead to. Names come from
// callers, so it is bounded; beyond the bound names are matched afresh.
type matchCache struct {
	mu sync.RWMutex
	m  map[matchKey]match
}

const maxCached = 4096

type matchKey struct{ provider, model, place string }

func (c *matchCache) get(k matchKey) (match, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	m, ok := c.m[k]
	return m, ok
}

func (c *matchCache) put(k matchKey, m match) {
	// The strings may be slices of a whole request body: do not keep that alive.
	k = matchKey{strings.Clone(k.provider), strings.Clone(k.model), strings.Clone(k.place)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[matchKey]match)
	}
	if len(c.m) < maxCached {
		c.m[k] = m
	}
}

var _ json.Marshaler = Row{}
