package price

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hedgerow/hedgerow/event"
)

//go:embed prices.json
var builtin []byte

// Table finds the price of a model. It never changes and is safe for concurrent
// use; take a new one from [Table.With] and its like to change a price.
type Table struct {
	builtin, synced, own []Row
	aliases              map[string]map[string]string // provider → key of a deployment → public model

	ownIndex, index index
	matches         matchCache
}

// index finds rows by canonical provider and [nameKey].
type index map[string]map[string]*entry

// entry is a row made ready for use.
type entry struct {
	Row
	ready []Tier // Row.Tiers, each with every rate that applies
}

// Default returns the table that hedgerow carries.
var Default = sync.OnceValue(func() *Table {
	sheet, err := decodeOverlay(bytes.NewReader(builtin))
	if err != nil {
		panic(fmt.Sprintf("read the built-in prices: %v", err)) // a test reads the same bytes
	}
	t := &Table{builtin: sheet.Rows}
	for i := range t.builtin {
		t.builtin[i].Origin = event.CostTable
	}
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

// WithSynced returns a table with o's rows in place of any synced before. For
// each model the newer of the synced and the built-in row decides, by their
// dates; on the same day the synced one. Where both agree on the price of input
// and output, the synced row takes over what only the built-in one knows, such
// as the price of an hour's cache write.
//
// OpenRouter charges what the vendor does, so a row "openai/gpt-4.1-mini" of
// OpenRouter also renews the row gpt-4.1-mini of OpenAI, and one of a vendor
// whose models are not available elsewhere adds it.
func (t *Table) WithSynced(o Overlay) *Table {
	c := t.clone()
	c.synced = slices.Clone(o.Rows)
	for i := range c.synced {
		r := &c.synced[i]
		r.Provider, r.Origin = canonicalProvider(r.Provider), event.CostSynced
		if r.Date.IsZero() {
			r.Date = o.Date
		}
		if r.Source == "" {
			r.Source = o.Source
		}
	}
	c.build()
	return c
}

// WithAliases returns a table in which names of deployments stand for public
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
	for _, x := range []index{t.ownIndex, t.index} {
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
	return &Table{builtin: t.builtin, synced: t.synced, own: slices.Clone(t.own), aliases: t.aliases}
}

func (t *Table) build() {
	t.index, t.ownIndex = make(index), make(index)
	for _, r := range t.builtin {
		t.index.put(r)
	}
	for _, r := range t.synced {
		t.index.renew(r)
		if v, ok := vendorRow(r); ok {
			t.index.renew(v)
		}
	}
	for _, r := range t.own {
		t.ownIndex.put(r)
	}
}

func (x index) put(r Row) {
	e := &entry{Row: r}
	for _, tier := range r.Tiers {
		for _, kind := range rates {
			if v := kind.at(&tier.Rates); !v.Known {
				*v = *kind.at(&r.Rates)
			}
		}
		e.ready = append(e.ready, tier)
	}
	byName := x[r.Provider]
	if byName == nil {
		byName = make(map[string]*entry)
		x[r.Provider] = byName
	}
	byName[nameKey(r.Model)] = e
	for _, alias := range r.Aliases {
		// A row of that very name says more than another's alias, whichever came first.
		key := nameKey(alias)
		if other := byName[key]; other == nil || nameKey(other.Model) != key {
			byName[key] = e
		}
	}
}

// renew puts r in place of an older row of the same model.
func (x index) renew(r Row) {
	key := nameKey(r.Model)
	if old := x[r.Provider][key]; old != nil {
		if r.Date.Before(old.Date) {
			return
		}
		if nameKey(old.Model) == key {
			r = r.merge(old.Row)
			r.Model = old.Model // in the vendor's own spelling
		}
	}
	x.put(r)
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
	return r, true
}

// closedModels names, by prefix, the models that only their vendor serves, so
// that OpenRouter's price for them is the vendor's. Open models are not here:
// what OpenRouter charges for them is the price of whoever hosts them.
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

type matchKey struct{ provider, model string }

func (c *matchCache) get(k matchKey) (match, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	m, ok := c.m[k]
	return m, ok
}

func (c *matchCache) put(k matchKey, m match) {
	// The strings may be slices of a whole request body: do not keep that alive.
	k = matchKey{strings.Clone(k.provider), strings.Clone(k.model)}
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
