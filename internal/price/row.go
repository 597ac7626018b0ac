package price

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"
	"go.yaml.in/yaml/v3"

	"github.com/hedgerow/hedgerow/event"
)

// USD is an amount that may be unknown.
type USD = event.Opt[decimal.Decimal]

// Rates are prices in USD per token. An unknown rate is not 0: [Table.Price]
// falls back as its comment says, or leaves the part without a cost.
type Rates struct {
	Input          USD
	Output         USD
	CacheRead      USD
	CacheWrite     USD // written for five minutes, or for the provider's only lifetime
	CacheWrite1h   USD
	Reasoning      USD // only where it differs from Output
	InputAudio     USD
	OutputAudio    USD
	CacheReadAudio USD
	InputImage     USD // tokens of pictures, not pictures
	OutputImage    USD
}

// Tier holds the rates of long prompts. It applies to the whole call when the
// prompt, cached tokens included, has more than Above tokens; among several the
// highest that applies wins. A rate that the tier does not name is the row's.
type Tier struct {
	Above int64
	Rates
}

// Row is one model's price at one provider.
type Row struct {
	// Provider is the canonical name: openai, anthropic, google, openrouter …
	// Empty, in own prices only, is every provider.
	Provider string

	// Model is the provider's name for it, without date. Aliases are further
	// names that cost the same.
	Model   string
	Aliases []string

	Rates
	Tiers []Tier // ascending by Above

	Request   USD // per call
	WebSearch USD // per search

	Origin string    // [event.CostManual], [event.CostTable] or [event.CostSynced]
	Source string    // the page or data set that says so
	Date   time.Time // the day on which the source said so, UTC
}

// Free reports whether the model is known to cost nothing per token.
func (r Row) Free() bool {
	return r.Input.Known && r.Input.Value.IsZero() && r.Output.Known && r.Output.Value.IsZero()
}

// rate names one kind of price in files and in differences.
type rate struct {
	name string
	at   func(*Rates) *USD
}

// rates lists the kinds in the order in which people read them.
var rates = []rate{
	{"input", func(r *Rates) *USD { return &r.Input }},
	{"output", func(r *Rates) *USD { return &r.Output }},
	{"cache_read", func(r *Rates) *USD { return &r.CacheRead }},
	{"cache_write", func(r *Rates) *USD { return &r.CacheWrite }},
	{"cache_write_1h", func(r *Rates) *USD { return &r.CacheWrite1h }},
	{"reasoning", func(r *Rates) *USD { return &r.Reasoning }},
	{"input_audio", func(r *Rates) *USD { return &r.InputAudio }},
	{"output_audio", func(r *Rates) *USD { return &r.OutputAudio }},
	{"cache_read_audio", func(r *Rates) *USD { return &r.CacheReadAudio }},
	{"input_image", func(r *Rates) *USD { return &r.InputImage }},
	{"output_image", func(r *Rates) *USD { return &r.OutputImage }},
}

// perMillion is the power of ten between the two units.
const perMillion = 6

// maxPerToken bounds what is treated as a price. A cent a token, 10,000 USD per
// million, is far beyond any model: more is a mistake of the unit.
var maxPerToken = decimal.New(1, -2)

// maxPerUse bounds the price of one request or one search, in USD.
var maxPerUse = decimal.New(1000, 0)

// rowForm is a row in a file. Amounts of tokens are USD per million unless unit
// says "token"; request and web_search are USD each.
type rowForm struct {
	Provider string   `json:"provider,omitzero" yaml:"provider"`
	Model    string   `json:"model" yaml:"model"`
	Aliases  []string `json:"aliases,omitempty" yaml:"aliases"`
	Unit     string   `json:"unit,omitzero" yaml:"unit"`
	rateForm `yaml:",inline"`

	Request   amount     `json:"request,omitzero" yaml:"request"`
	WebSearch amount     `json:"web_search,omitzero" yaml:"web_search"`
	Tiers     []tierForm `json:"tiers,omitempty" yaml:"tiers"`
	Source    string     `json:"source,omitzero" yaml:"source"`
	Date      string     `json:"date,omitzero" yaml:"date"`
}

type rateForm struct {
	Input          amount `json:"input,omitzero" yaml:"input"`
	Output         amount `json:"output,omitzero" yaml:"output"`
	CacheRead      amount `json:"cache_read,omitzero" yaml:"cache_read"`
	CacheWrite     amount `json:"cache_write,omitzero" yaml:"cache_write"`
	CacheWrite1h   amount `json:"cache_write_1h,omitzero" yaml:"cache_write_1h"`
	Reasoning      amount `json:"reasoning,omitzero" yaml:"reasoning"`
	InputAudio     amount `json:"input_audio,omitzero" yaml:"input_audio"`
	OutputAudio    amount `json:"output_audio,omitzero" yaml:"output_audio"`
	CacheReadAudio amount `json:"cache_read_audio,omitzero" yaml:"cache_read_audio"`
	InputImage     amount `json:"input_image,omitzero" yaml:"input_image"`
	OutputImage    amount `json:"output_image,omitzero" yaml:"output_image"`
}

type tierForm struct {
	Above    int64 `json:"above" yaml:"above"`
	rateForm `yaml:",inline"`
}

// The keys that rows and tiers may have in a configuration file.
var (
	rateKeys = func() (names []string) {
		for _, r := range rates {
			names = append(names, r.name)
		}
		return names
	}()
	rowKeys  = append([]string{"provider", "model", "aliases", "unit", "request", "web_search", "tiers", "source", "date"}, rateKeys...)
	tierKeys = append([]string{"above"}, rateKeys...)
)

// amount is a decimal that is read and written as is, never as a float.
type amount USD

func (a amount) IsZero() bool { return !a.Known }

func (a amount) MarshalJSON() ([]byte, error) { return []byte(a.Value.String()), nil }

func (a *amount) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	return a.parse(strings.Trim(string(b), `"`))
}

func (a *amount) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: a price is a number", n.Line)
	}
	if n.Tag == "!!null" {
		return nil
	}
	if err := a.parse(n.Value); err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	return nil
}

func (a *amount) parse(s string) error {
	d, ok := parseDecimal(s)
	if !ok {
		return fmt.Errorf("a price is a plain number such as 0.15, not %.20q", s)
	}
	*a = amount(event.Some(d))
	return nil
}

// parseDecimal reads a number that is safe to calculate with: 1e999999999 has
// ten characters but a gigabyte of digits.
func parseDecimal(s string) (decimal.Decimal, bool) {
	if s == "" || len(s) > 64 {
		return decimal.Decimal{}, false
	}
	d, err := decimal.NewFromString(s)
	return d, err == nil && sane(d)
}

// sane reports whether sums and products with d stay small.
func sane(d decimal.Decimal) bool {
	return d.Exponent() >= -64 && d.Exponent() <= 18 && d.Coefficient().BitLen() <= 256
}

// row validates a form. The messages name the model, or the position where the
// model is what is missing.
func (f *rowForm) row() (Row, error) {
	shift := int32(-perMillion)
	switch f.Unit {
	case "", "million":
	case "token":
		shift = 0
	default:
		return Row{}, fmt.Errorf("unit is %.20q; it is million (the default) or token", f.Unit)
	}
	r := Row{
		Provider: canonicalProvider(f.Provider), Model: strings.TrimSpace(f.Model), Aliases: f.Aliases,
		Request: USD(f.Request), WebSearch: USD(f.WebSearch), Source: f.Source,
	}
	if r.Model == "" {
		return Row{}, fmt.Errorf("it names no model")
	}
	var err error
	if r.Rates, err = f.rates(shift); err != nil {
		return Row{}, err
	}
	for _, t := range f.Tiers {
		tier := Tier{Above: t.Above}
		if tier.Rates, err = t.rates(shift); err != nil {
			return Row{}, fmt.Errorf("tier above %d: %w", t.Above, err)
		}
		if t.Above <= 0 {
			return Row{}, fmt.Errorf("a tier needs above: the number of prompt tokens beyond which it applies")
		}
		if n := len(r.Tiers); n > 0 && r.Tiers[n-1].Above >= t.Above {
			return Row{}, fmt.Errorf("tiers must ascend: %d comes after %d", t.Above, r.Tiers[n-1].Above)
		}
		if tier.Rates == (Rates{}) {
			return Row{}, fmt.Errorf("the tier above %d has no price", t.Above)
		}
		r.Tiers = append(r.Tiers, tier)
	}
	for _, u := range []struct {
		name string
		v    USD
	}{{"request", r.Request}, {"web_search", r.WebSearch}} {
		if err := checkPrice(u.name, u.v, maxPerUse, "it is USD for each one"); err != nil {
			return Row{}, err
		}
	}
	if r.Rates == (Rates{}) && !r.Request.Known && !r.WebSearch.Known {
		return Row{}, fmt.Errorf("it has no price; give input and output")
	}
	if f.Date != "" {
		if r.Date, err = time.Parse(time.DateOnly, f.Date); err != nil {
			return Row{}, fmt.Errorf("date is %.20q; write it as 2026-01-31", f.Date)
		}
	}
	return r, nil
}

func (f *rateForm) rates(shift int32) (Rates, error) {
	r := Rates{
		Input: USD(f.Input), Output: USD(f.Output), CacheRead: USD(f.CacheRead),
		CacheWrite: USD(f.CacheWrite), CacheWrite1h: USD(f.CacheWrite1h), Reasoning: USD(f.Reasoning),
		InputAudio: USD(f.InputAudio), OutputAudio: USD(f.OutputAudio), CacheReadAudio: USD(f.CacheReadAudio),
		InputImage: USD(f.InputImage), OutputImage: USD(f.OutputImage),
	}
	for _, kind := range rates {
		v := kind.at(&r)
		if !v.Known {
			continue
		}
		v.Value = v.Value.Shift(shift)
		if err := checkPrice(kind.name, *v, maxPerToken, "prices are USD per million tokens unless unit is token"); err != nil {
			return Rates{}, err
		}
	}
	return r, nil
}

func checkPrice(name string, v USD, limit decimal.Decimal, hint string) error {
	switch {
	case !v.Known:
		return nil
	case v.Value.IsNegative():
		return fmt.Errorf("%s is below 0", name)
	case v.Value.GreaterThan(limit):
		return fmt.Errorf("%s is too high to be true; %s", name, hint)
	}
	return nil
}

// form is the inverse of [rowForm.row], in USD per million.
func (r Row) form() rowForm {
	f := rowForm{
		Provider: r.Provider, Model: r.Model, Aliases: r.Aliases, rateForm: r.Rates.form(),
		Request: amount(r.Request), WebSearch: amount(r.WebSearch), Source: r.Source,
	}
	for _, t := range r.Tiers {
		f.Tiers = append(f.Tiers, tierForm{Above: t.Above, rateForm: t.Rates.form()})
	}
	if !r.Date.IsZero() {
		f.Date = r.Date.Format(time.DateOnly)
	}
	return f
}

func (r Rates) form() rateForm {
	for _, kind := range rates {
		if v := kind.at(&r); v.Known {
			v.Value = v.Value.Shift(perMillion)
		}
	}
	return rateForm{
		Input: amount(r.Input), Output: amount(r.Output), CacheRead: amount(r.CacheRead),
		CacheWrite: amount(r.CacheWrite), CacheWrite1h: amount(r.CacheWrite1h), Reasoning: amount(r.Reasoning),
		InputAudio: amount(r.InputAudio), OutputAudio: amount(r.OutputAudio), CacheReadAudio: amount(r.CacheReadAudio),
		InputImage: amount(r.InputImage), OutputImage: amount(r.OutputImage),
	}
}

// MarshalJSON writes the row in the form of prices.json: USD per million tokens.
func (r Row) MarshalJSON() ([]byte, error) { return json.Marshal(r.form()) }

// UnmarshalJSON reads the form that MarshalJSON writes. Unknown keys are errors.
func (r *Row) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var f rowForm
	if err := dec.Decode(&f); err != nil {
		return fmt.Errorf("read price: %w", err)
	}
	row, err := f.row()
	if err != nil {
		return fmt.Errorf("price of %.80q: %w", f.Model, err)
	}
	*r = row
	return nil
}

// RowsFromYAML reads own prices from a configuration file: a list of mappings
// with the keys of prices.json, in USD per million tokens unless a row has
// "unit: token". Errors are [*event.Error] that name the line; n may be the zero
// Node, which has no rows.
func RowsFromYAML(n *yaml.Node) ([]Row, error) {
	if n == nil || n.Kind == 0 || n.Tag == "!!null" {
		return nil, nil
	}
	if n.Kind != yaml.SequenceNode {
		return nil, badPrice(n.Line, "prices is not a list")
	}
	var rows []Row
	seen := make(map[string]int)
	for _, item := range n.Content {
		row, err := rowFromYAML(item)
		if err != nil {
			return nil, err
		}
		id := row.Provider + " " + nameKey(row.Model)
		if line, ok := seen[id]; ok {
			return nil, badPrice(item.Line, fmt.Sprintf("the price of %.80q is already given in line %d", row.Model, line))
		}
		seen[id] = item.Line
		rows = append(rows, row)
	}
	return rows, nil
}

func rowFromYAML(n *yaml.Node) (Row, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return Row{}, badPrice(n.Line, "a price is a mapping such as {model: my-model, input: 0.9, output: 2.7}")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if !slices.Contains(rowKeys, key.Value) {
			return Row{}, badPrice(key.Line, fmt.Sprintf("a price has no key %.40q; the keys are %s", key.Value, strings.Join(rowKeys, ", ")))
		}
		if key.Value != "tiers" || val.Kind != yaml.SequenceNode {
			continue
		}
		for _, tier := range val.Content {
			for j := 0; j+1 < len(tier.Content); j += 2 {
				if k := tier.Content[j]; !slices.Contains(tierKeys, k.Value) {
					return Row{}, badPrice(k.Line, fmt.Sprintf("a tier has no key %.40q; the keys are %s", k.Value, strings.Join(tierKeys, ", ")))
				}
			}
		}
	}
	var f rowForm
	if err := n.Decode(&f); err != nil {
		return Row{}, badPrice(n.Line, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	row, err := f.row()
	if err != nil {
		what := "the price"
		if f.Model != "" {
			what = fmt.Sprintf("the price of %.80q", f.Model)
		}
		return Row{}, badPrice(n.Line, what+": "+err.Error())
	}
	row.Origin = event.CostManual
	return row, nil
}

func badPrice(line int, message string) error {
	return event.Invalid(fmt.Sprintf("prices, line %d: %s", line, message), "see docs/prices.md; an example: {model: my-model, input: 0.9, output: 2.7} in USD per million tokens")
}

// merge fills what r lacks from old, an earlier row of the same model: its
// aliases, and, when both agree on the price of input and output, the rates
// that only old names. Then they describe the same prices, one in more detail.
func (r Row) merge(old Row) Row {
	r.Aliases = slices.Compact(slices.Sorted(slices.Values(slices.Concat(r.Aliases, old.Aliases))))
	if !equal(r.Input, old.Input) || !equal(r.Output, old.Output) {
		return r
	}
	for _, kind := range rates {
		if v := kind.at(&r.Rates); !v.Known {
			*v = *kind.at(&old.Rates)
		}
	}
	if !r.Request.Known {
		r.Request = old.Request
	}
	if !r.WebSearch.Known {
		r.WebSearch = old.WebSearch
	}
	if len(r.Tiers) == 0 {
		r.Tiers = old.Tiers
	}
	return r
}

func equal(a, b USD) bool {
	return a.Known == b.Known && (!a.Known || a.Value.Equal(b.Value))
}
