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
	Tiers    []Tier // ascending by Above
	Periods  []Period
	Variants []Variant

	Origin string    // [event.CostManual], [event.CostTable] or [event.CostSynced]
	Source string    // the page or data set that says so
	Date   time.Time // the day on which the source said so, UTC
	Kept   []Kept    // parts that are from elsewhere
}

// Kept names parts of a row's price that the row's source does not state.
type Kept struct {
	Parts  []string // names of rates ("cache_read"), "tiers", "periods", conditions of variants ("processing=batch")
	Origin string   // of the parts, as [Row.Origin]
	Source string
	Date   time.Time
}

// Free reports whether the model is known to cost nothing per token.
func (r Row) Free() bool {
	return r.Input.Known && r.Input.Value.IsZero() && r.Output.Known && r.Output.Value.IsZero()
}

// rowForm is a row in a file. Amounts of tokens and characters are USD per million
// unless unit says "token"; those of pieces are USD each.
type rowForm struct {
	Provider  string   `json:"provider,omitzero" yaml:"provider"`
	Model     string   `json:"model" yaml:"model"`
	Aliases   []string `json:"aliases,omitempty" yaml:"aliases"`
	Unit      string   `json:"unit,omitzero" yaml:"unit"`
	priceForm `yaml:",inline"`

	Periods  []periodForm  `json:"periods,omitempty" yaml:"periods"`
	Variants []variantForm `json:"variants,omitempty" yaml:"variants"`
	Source   string        `json:"source,omitzero" yaml:"source"`
	Date     string        `json:"date,omitzero" yaml:"date"`
}

// priceForm is one set of prices.
type priceForm struct {
	rateForm `yaml:",inline"`
	Tiers    []tierForm `json:"tiers,omitempty" yaml:"tiers"`
}

// rateForm has a member for each of [rates], under its name.
type rateForm struct {
	Input          amount `json:"input,omitzero" yaml:"input"`
	Output         amount `json:"output,omitzero" yaml:"output"`
	CacheRead      amount `json:"cache_read,omitzero" yaml:"cache_read"`
	CacheWrite     amount `json:"cache_write,omitzero" yaml:"cache_write"`
	CacheWrite1h   amount `json:"cache_write_1h,omitzero" yaml:"cache_write_1h"`
	CacheWrite12h  amount `json:"cache_write_12h,omitzero" yaml:"cache_write_12h"`
	Reasoning      amount `json:"reasoning,omitzero" yaml:"reasoning"`
	InputAudio     amount `json:"input_audio,omitzero" yaml:"input_audio"`
	OutputAudio    amount `json:"output_audio,omitzero" yaml:"output_audio"`
	CacheReadAudio amount `json:"cache_read_audio,omitzero" yaml:"cache_read_audio"`
	InputImage     amount `json:"input_image,omitzero" yaml:"input_image"`
	OutputImage    amount `json:"output_image,omitzero" yaml:"output_image"`
	CacheReadImage amount `json:"cache_read_image,omitzero" yaml:"cache_read_image"`
	InputVideo     amount `json:"input_video,omitzero" yaml:"input_video"`
	OutputVideo    amount `json:"output_video,omitzero" yaml:"output_video"`
	Request        amount `json:"request,omitzero" yaml:"request"`
	WebSearch      amount `json:"web_search,omitzero" yaml:"web_search"`
	FileSearch     amount `json:"file_search,omitzero" yaml:"file_search"`
	CodeSession    amount `json:"code_session,omitzero" yaml:"code_session"`
	SearchUnit     amount `json:"search_unit,omitzero" yaml:"search_unit"`
	Hour           amount `json:"hour,omitzero" yaml:"hour"`
	Character      amount `json:"character,omitzero" yaml:"character"`
	Page           amount `json:"page,omitzero" yaml:"page"`
	Image          amount `json:"image,omitzero" yaml:"image"`
}

type tierForm struct {
	Above    int64 `json:"above" yaml:"above"`
	rateForm `yaml:",inline"`
}

// periodForm: from is a day, start and end are times of the day in UTC. With weekdays
// it holds from Monday to Friday only.
type periodForm struct {
	From      string `json:"from,omitzero" yaml:"from"`
	To        string `json:"to,omitzero" yaml:"to"`
	Start     string `json:"start,omitzero" yaml:"start"`
	End       string `json:"end,omitzero" yaml:"end"`
	Weekdays  bool   `json:"weekdays,omitzero" yaml:"weekdays"`
	priceForm `yaml:",inline"`
}

type variantForm struct {
	When      string `json:"when" yaml:"when"`
	From      string `json:"from,omitzero" yaml:"from"`
	Factor    amount `json:"factor,omitzero" yaml:"factor"`
	priceForm `yaml:",inline"`
}

// The keys that rows and their parts may have in a configuration file.
var (
	rateKeys = func() (names []string) {
		for _, r := range rates {
			names = append(names, r.name)
		}
		return names
	}()
	rowKeys     = append([]string{"provider", "model", "aliases", "unit", "tiers", "periods", "variants", "source", "date"}, rateKeys...)
	tierKeys    = append([]string{"above"}, rateKeys...)
	periodKeys  = append([]string{"from", "to", "start", "end", "weekdays", "tiers"}, rateKeys...)
	variantKeys = append([]string{"when", "from", "factor", "tiers"}, rateKeys...)
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
	whole := false // amounts are per token
	switch f.Unit {
	case "", "million":
	case "token":
		whole = true
	default:
		return Row{}, fmt.Errorf("unit is %.20q; it is million (the default) or token", f.Unit)
	}
	r := Row{Provider: canonicalProvider(f.Provider), Model: strings.TrimSpace(f.Model), Aliases: f.Aliases, Source: f.Source}
	if r.Model == "" {
		return Row{}, fmt.Errorf("it names no model")
	}
	var err error
	if r.Rates, r.Tiers, err = f.prices(whole); err != nil {
		return Row{}, err
	}
	for _, p := range f.Periods {
		period := Period{Weekdays: p.Weekdays}
		if period.Rates, period.Tiers, err = p.prices(whole); err == nil {
			period.From, err = day(p.From)
		}
		if err == nil {
			period.To, err = day(p.To)
		}
		if err == nil && (p.Start == "") != (p.End == "") {
			err = fmt.Errorf("start and end go together")
		}
		if err == nil && p.Start != "" {
			if period.Start, err = clock(p.Start); err == nil {
				period.End, err = clock(p.End)
			}
		}
		if err == nil && period.From.IsZero() && period.To.IsZero() && period.Start == period.End && !p.Weekdays {
			err = fmt.Errorf("it needs from, to, or start and end")
		}
		if err != nil {
			return Row{}, fmt.Errorf("a period: %w", err)
		}
		r.Periods = append(r.Periods, period)
	}
	for _, v := range f.Variants {
		variant := Variant{When: v.When, Factor: USD(v.Factor)}
		if variant.Rates, variant.Tiers, err = v.prices(whole); err == nil {
			variant.From, err = day(v.From)
		}
		for _, c := range conditions(v.When) {
			if !slices.Contains([]string{keyTier, keyProcessing, keySpeed, keyGeo, keySize, keyQuality, keyPages}, c[0]) || c[1] == "" {
				err = fmt.Errorf("when is %.40q; write it as service_tier=flex, processing=batch, speed=fast, geo=us, size=1024x1024, quality=hd or pages=annotated", v.When)
			}
		}
		if err == nil && v.Factor.Known && (v.Factor.Value.IsNegative() || v.Factor.Value.GreaterThan(maxFactor)) {
			err = fmt.Errorf("factor is not between 0 and %s", maxFactor)
		}
		if err != nil {
			return Row{}, fmt.Errorf("a variant: %w", err)
		}
		r.Variants = append(r.Variants, variant)
	}
	if r.Rates == (Rates{}) && len(r.Variants) == 0 {
		return Row{}, fmt.Errorf("it has no price; give input and output")
	}
	if f.Date != "" {
		if r.Date, err = time.Parse(time.DateOnly, f.Date); err != nil {
			return Row{}, fmt.Errorf("date is %.20q; write it as 2026-01-31", f.Date)
		}
	}
	return r, nil
}

// maxFactor bounds a variant's factor.
var maxFactor = decimal.New(100, 0)

func day(s string) (t time.Time, err error) {
	if s == "" {
		return t, nil
	}
	if t, err = time.Parse(time.DateOnly, s); err != nil {
		return t, fmt.Errorf("a day is %.20q; write it as 2026-01-31", s)
	}
	return t, nil
}

func clock(s string) (time.Duration, error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("a time of the day is %.20q; write it as 16:30", s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

func (f *priceForm) prices(whole bool) (r Rates, tiers []Tier, err error) {
	if r, err = f.rates(whole); err != nil {
		return r, nil, err
	}
	for _, t := range f.Tiers {
		tier := Tier{Above: t.Above}
		if tier.Rates, err = t.rates(whole); err != nil {
			return r, nil, fmt.Errorf("tier above %d: %w", t.Above, err)
		}
		if t.Above <= 0 {
			return r, nil, fmt.Errorf("a tier needs above: the number of prompt tokens beyond which it applies")
		}
		if n := len(tiers); n > 0 && tiers[n-1].Above >= t.Above {
			return r, nil, fmt.Errorf("tiers must ascend: %d comes after %d", t.Above, tiers[n-1].Above)
		}
		if tier.Rates == (Rates{}) {
			return r, nil, fmt.Errorf("the tier above %d has no price", t.Above)
		}
		tiers = append(tiers, tier)
	}
	return r, tiers, nil
}

func (f *rateForm) rates(whole bool) (Rates, error) {
	r := Rates{
		Input: USD(f.Input), Output: USD(f.Output), CacheRead: USD(f.CacheRead),
		CacheWrite: USD(f.CacheWrite), CacheWrite1h: USD(f.CacheWrite1h), CacheWrite12h: USD(f.CacheWrite12h), Reasoning: USD(f.Reasoning),
		InputAudio: USD(f.InputAudio), OutputAudio: USD(f.OutputAudio), CacheReadAudio: USD(f.CacheReadAudio),
		InputImage: USD(f.InputImage), OutputImage: USD(f.OutputImage), CacheReadImage: USD(f.CacheReadImage),
		InputVideo: USD(f.InputVideo), OutputVideo: USD(f.OutputVideo),
		Request: USD(f.Request), WebSearch: USD(f.WebSearch), FileSearch: USD(f.FileSearch), CodeSession: USD(f.CodeSession), SearchUnit: USD(f.SearchUnit),
		Hour: USD(f.Hour), Character: USD(f.Character), Page: USD(f.Page), Image: USD(f.Image),
	}
	for i := range rates {
		kind := &rates[i]
		v := kind.at(&r)
		if !v.Known {
			continue
		}
		hint := "it is USD for each one"
		if kind.shift != 0 {
			hint = "prices are USD per million tokens unless unit is token"
			if !whole {
				v.Value = v.Value.Shift(-kind.shift)
			}
		}
		if err := checkPrice(kind.name, *v, kind.limit(), hint); err != nil {
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
	f := rowForm{Provider: r.Provider, Model: r.Model, Aliases: r.Aliases, priceForm: pricesForm(r.Rates, r.Tiers), Source: r.Source, Date: date(r.Date)}
	for _, p := range r.Periods {
		form := periodForm{From: date(p.From), To: date(p.To), Weekdays: p.Weekdays, priceForm: pricesForm(p.Rates, p.Tiers)}
		if p.Start != p.End {
			form.Start, form.End = clockForm(p.Start), clockForm(p.End)
		}
		f.Periods = append(f.Periods, form)
	}
	for _, v := range r.Variants {
		f.Variants = append(f.Variants, variantForm{When: v.When, From: date(v.From), Factor: amount(v.Factor), priceForm: pricesForm(v.Rates, v.Tiers)})
	}
	return f
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}

func clockForm(d time.Duration) string { return time.Time{}.Add(d).Format("15:04") }

func pricesForm(r Rates, tiers []Tier) priceForm {
	f := priceForm{rateForm: r.form()}
	for _, t := range tiers {
		f.Tiers = append(f.Tiers, tierForm{Above: t.Above, rateForm: t.Rates.form()})
	}
	return f
}

func (r Rates) form() rateForm {
	for _, kind := range rates {
		if v := kind.at(&r); v.Known {
			v.Value = v.Value.Shift(kind.shift)
		}
	}
	return rateForm{
		Input: amount(r.Input), Output: amount(r.Output), CacheRead: amount(r.CacheRead),
		CacheWrite: amount(r.CacheWrite), CacheWrite1h: amount(r.CacheWrite1h), CacheWrite12h: amount(r.CacheWrite12h), Reasoning: amount(r.Reasoning),
		InputAudio: amount(r.InputAudio), OutputAudio: amount(r.OutputAudio), CacheReadAudio: amount(r.CacheReadAudio),
		InputImage: amount(r.InputImage), OutputImage: amount(r.OutputImage), CacheReadImage: amount(r.CacheReadImage),
		InputVideo: amount(r.InputVideo), OutputVideo: amount(r.OutputVideo),
		Request: amount(r.Request), WebSearch: amount(r.WebSearch), FileSearch: amount(r.FileSearch), CodeSession: amount(r.CodeSession), SearchUnit: amount(r.SearchUnit),
		Hour: amount(r.Hour), Character: amount(r.Character), Page: amount(r.Page), Image: amount(r.Image),
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
		if err := checkParts(key.Value, val); err != nil {
			return Row{}, err
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

// checkParts finds keys that a part of a row does not have.
func checkParts(name string, list *yaml.Node) error {
	part, keys := "", []string(nil)
	switch name {
	case "tiers":
		part, keys = "tier", tierKeys
	case "periods":
		part, keys = "period", periodKeys
	case "variants":
		part, keys = "variant", variantKeys
	}
	if part == "" || list.Kind != yaml.SequenceNode {
		return nil
	}
	for _, item := range list.Content {
		for i := 0; i+1 < len(item.Content); i += 2 {
			k := item.Content[i]
			if !slices.Contains(keys, k.Value) {
				return badPrice(k.Line, fmt.Sprintf("a %s has no key %.40q; the keys are %s", part, k.Value, strings.Join(keys, ", ")))
			}
			if k.Value == "tiers" {
				if err := checkParts("tiers", item.Content[i+1]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func badPrice(line int, message string) error {
	return event.Invalid(fmt.Sprintf("prices, line %d: %s", line, message), "see docs/prices.md; an example: {model: my-model, input: 0.9, output: 2.7} in USD per million tokens")
}

// Merge fills what r lacks from old, another row of the same model: its aliases,
// and, when both agree on the price of input and output, the rates, the tiers and the
// variants that only old names. Then they describe the same prices, one in more detail.
func (r Row) Merge(old Row) Row {
	r.Aliases = slices.Compact(slices.Sorted(slices.Values(slices.Concat(r.Aliases, old.Aliases))))
	if !equal(r.Input, old.Input) || !equal(r.Output, old.Output) {
		return r
	}
	return r.fill(old, false)
}

// renew returns r, a newer row of a model, over old. It is the rule for all that
// replaces prices: a refresh, a sync and the corrections. r replaces what it states;
// what only old states stays, and Kept names its source.
//
// Where retracts is set, r is of a newer copy of the list that old is of. Tiers and
// periods that such a list no longer has no longer hold: they would apply to calls of
// every kind, unlike a rate or a variant, which applies only to usage of its kind.
func (r Row) renew(old Row, retracts bool) Row {
	if retracts {
		old.Tiers, old.Periods = slices.DeleteFunc(slices.Clone(old.Tiers), func(t Tier) bool { return !hasTier(r.Tiers, t.Above) }), nil
	}
	return r.fill(old, true)
}

// fill adds to r what only old states, and to Kept where that is from. Parts of tiers and
// variants are added where both agree on the price of input and output, or, if differing
// is set, everywhere.
func (r Row) fill(old Row, differing bool) Row {
	added := missing(r, old)
	r.Rates = r.Rates.over(old.Rates)
	r.Tiers = mergeTiers(r.Tiers, old.Tiers, differing)
	if len(r.Periods) == 0 {
		r.Periods = old.Periods
	}
	r.Variants = addVariants(r.Variants, old.Variants, differing)
	return r.withKept(old, added)
}

// missing names the parts of a price that old states and r does not.
func missing(r, old Row) (parts []string) {
	for i := range rates {
		if !rates[i].at(&r.Rates).Known && rates[i].at(&old.Rates).Known {
			parts = append(parts, rates[i].name)
		}
	}
	if len(r.Tiers) == 0 && len(old.Tiers) > 0 {
		parts = append(parts, "tiers")
	}
	if len(r.Periods) == 0 && len(old.Periods) > 0 {
		parts = append(parts, "periods")
	}
	for _, v := range old.Variants {
		if !slices.Contains(parts, v.When) && !slices.ContainsFunc(r.Variants, func(w Variant) bool { return w.When == v.When }) {
			parts = append(parts, v.When)
		}
	}
	return parts
}

// withKept adds to r.Kept that parts are old's, or from where old has them.
func (r Row) withKept(old Row, parts []string) Row {
	if len(parts) == 0 {
		return r
	}
	r.Kept = slices.Clone(r.Kept)
	for _, part := range parts {
		k := Kept{Origin: old.Origin, Source: old.Source, Date: old.Date}
		for _, o := range old.Kept {
			if slices.Contains(o.Parts, part) {
				k = o
			}
		}
		i := slices.IndexFunc(r.Kept, func(o Kept) bool { return o.Origin == k.Origin && o.Source == k.Source && o.Date.Equal(k.Date) })
		if i < 0 {
			i, k.Parts = len(r.Kept), nil
			r.Kept = append(r.Kept, k)
		}
		r.Kept[i].Parts = append(slices.Clone(r.Kept[i].Parts), part)
	}
	return r
}

// addVariants adds to list those of more whose condition no variant of list has, and
// to the others the rates that they lack: where the price of input and output is the
// same, or where differing is set, of the same day. A factor is added for the time
// before, too.
func addVariants(list, more []Variant, differing bool) []Variant {
	known := len(list)
	list = slices.Clone(list)
	for _, v := range more {
		found := false
		for i := range list[:known] {
			if w := &list[i]; w.When == v.When {
				found = found || !v.Factor.Known || w.From.IsZero()
				if differing && w.From.Equal(v.From) || equal(w.Input, v.Input) && equal(w.Output, v.Output) {
					w.Rates = w.Rates.over(v.Rates)
					w.Tiers = mergeTiers(w.Tiers, v.Tiers, differing)
				}
			}
		}
		if !found {
			list = append(list, v)
		}
	}
	return list
}

// mergeTiers adds to list what only more says: all of its tiers if list has none, else
// the rates of those that both have, at the same prices or, if differing is set, at any.
func mergeTiers(list, more []Tier, differing bool) []Tier {
	if len(list) == 0 {
		return more
	}
	list = slices.Clone(list)
	for i := range list {
		for _, t := range more {
			if l := &list[i]; l.Above == t.Above && (differing || equal(l.Input, t.Input) && equal(l.Output, t.Output)) {
				l.Rates = l.Rates.over(t.Rates)
			}
		}
	}
	return list
}

func hasTier(tiers []Tier, above int64) bool {
	return slices.ContainsFunc(tiers, func(t Tier) bool { return t.Above == above })
}

func equal(a, b USD) bool {
	return a.Known == b.Known && (!a.Known || a.Value.Equal(b.Value))
}
