package reconcile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

// record is a row of a CSV file or a result of a JSON page. Nested fields of JSON are
// joined by an underscore, as the CSV exports name them: amount.value is amount_value.
type record struct {
	values map[string]string
	where  string // for errors: "line 17"
}

func (r record) text(names ...string) string {
	for _, n := range names {
		if v := r.values[n]; v != "" {
			return v
		}
	}
	return ""
}

func (r record) has(name string) bool { _, ok := r.values[name]; return ok }

// named is the first of the names that has a value, else the first that is there.
func (r record) named(names []string) string {
	for _, n := range names {
		if r.values[n] != "" {
			return n
		}
	}
	for _, n := range names {
		if r.has(n) {
			return n
		}
	}
	return names[0]
}

// number reads the first of the names that has a value; unknown if none has.
func (r record) number(names ...string) (Amount, error) {
	for _, n := range names {
		if v := r.values[n]; v != "" {
			d, err := parseDecimal(v)
			if err != nil {
				return Amount{}, r.wrong(n, "a number")
			}
			return event.Some(d), nil
		}
	}
	return Amount{}, nil
}

// maxCount is more than a provider counts on a day: sums of counts stay far below the
// largest int64.
var maxCount = decimal.New(1, 15)

// quantity is number for amounts of usage, which some reports correct by negative ones.
func (r record) quantity(names ...string) (Amount, error) {
	n, err := r.number(names...)
	if err == nil && n.Value.Abs().GreaterThan(maxCount) {
		return n, r.wrong(r.named(names), "a count")
	}
	return n, err
}

// count is quantity for counts, which are not negative.
func (r record) count(names ...string) (Amount, error) {
	n, err := r.quantity(names...)
	if err == nil && n.Known && n.Value.IsNegative() {
		return n, r.wrong(r.named(names), "a count")
	}
	return n, err
}

func (r record) wrong(name, what string) error {
	return event.Invalid(fmt.Sprintf("%s: %s is not %s", r.where, name, what), "import the file as the provider exported it, without changes")
}

// maxDigits bounds the digits of numbers, on both sides of the point: no amount has
// more, and larger ones would take memory in every sum.
const maxDigits = 40

func parseDecimal(s string) (decimal.Decimal, error) {
	s = strings.TrimPrefix(strings.TrimSpace(s), "$")
	if len(s) > 2*maxDigits {
		return decimal.Decimal{}, fmt.Errorf("a number of %d characters", len(s))
	}
	d, err := decimal.NewFromString(s)
	if err != nil {
		return d, err
	}
	if e := d.Exponent(); e < -maxDigits || e > maxDigits {
		return decimal.Decimal{}, fmt.Errorf("an exponent of %d", e)
	}
	return d, nil
}

// timeForms are the forms of times in exports; those without a zone are UTC.
var timeForms = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05.999999999 UTC", "2006-01-02 15:04:05Z07:00", time.DateOnly, "2006/1/2"}

// time reads the first of the names that has a value: seconds since 1970, or a date or
// time in one of timeForms. Zero if none has.
func (r record) time(names ...string) (time.Time, error) {
	for _, n := range names {
		v := strings.TrimSpace(r.values[n])
		if v == "" {
			continue
		}
		t, err := parseTime(v)
		if err != nil {
			return t, r.wrong(n, "a date or time")
		}
		return t, nil
	}
	return time.Time{}, nil
}

func parseTime(v string) (time.Time, error) {
	var t time.Time
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		t = time.Unix(n, 0)
	} else {
		for _, form := range timeForms {
			if t, err = time.Parse(form, v); err == nil {
				break
			}
		}
		if err != nil {
			return t, err
		}
	}
	if y := t.UTC().Year(); y < 2020 || y > 2100 {
		return t, fmt.Errorf("the year %d", y)
	}
	return t.UTC(), nil
}

// day is the UTC day of a record whose bucket begins and ends at these fields. A bucket
// that is longer than a day, or of a day in another time zone, cannot be compared by day.
func (r record) day(start, end []string) (string, error) {
	from, err := r.time(start...)
	if err != nil {
		return "", err
	}
	if from.IsZero() {
		return "", r.wrong(r.named(start), "there")
	}
	to, err := r.time(end...)
	if err != nil {
		return "", err
	}
	if to.Sub(from) > 25*time.Hour {
		return "", event.Invalid(fmt.Sprintf("%s: the amounts are of more than one day", r.where), "export with an interval of one day (bucket_width 1d; for AWS the time granularity daily or hourly)")
	}
	if !to.IsZero() && to.After(startOfDay(from).AddDate(0, 0, 1)) && !from.Equal(startOfDay(from)) {
		return "", event.Invalid(fmt.Sprintf("%s: the day is not a UTC day: it begins at %s", r.where, from.Format("15:04")), "export with the time zone UTC")
	}
	return dayOf(from), nil
}

// flatten adds the fields of a JSON object to values. Lists keep their JSON.
func flatten(values map[string]string, prefix string, fields map[string]any) {
	for k, v := range fields {
		name := prefix + strings.ReplaceAll(k, ".", "_")
		switch v := v.(type) {
		case nil:
			values[name] = ""
		case string:
			values[name] = v
		case json.Number:
			values[name] = v.String()
		case bool:
			values[name] = strconv.FormatBool(v)
		case map[string]any:
			flatten(values, name+"_", v)
		default:
			b, _ := json.Marshal(v) // it was JSON
			values[name] = string(b)
		}
	}
}

// collector adds up lines.
type collector struct {
	feed    Feed
	lines   map[Line]*Line // by what identifies a line
	days    map[string]bool
	unknown map[string]bool
	notes   map[string]int // how often each applies
	places  int32          // the most digits behind the point of an amount
	amounts bool
}

func newCollector(f Feed) *collector {
	return &collector{feed: f, lines: make(map[Line]*Line), days: make(map[string]bool), unknown: make(map[string]bool), notes: make(map[string]int)}
}

// Bounds of an import.
const (
	maxLines = 100_000 // after adding up
	maxDays  = 1100
	maxName  = 500 // bytes of a name in a line
	maxNames = 100 // of unknown fields, and of notes
)

// ignore notes a column or field that is not read.
func (c *collector) ignore(name string) {
	if name = clean(name); len(c.unknown) >= maxNames && !c.unknown[name] {
		name = "and others"
	}
	c.unknown[name] = true
}

// times is where a note has how often it applies.
const times = "\x00"

// note counts a note.
func (c *collector) note(text string) {
	if _, ok := c.notes[text]; !ok && len(c.notes) >= maxNames {
		text = "and others: " + times
	}
	c.notes[text]++
}

func (c *collector) cover(day string) error {
	if c.days[day] = true; len(c.days) > maxDays {
		return event.NewError(event.CodeTooLarge, fmt.Sprintf("the export is about more than %d days", maxDays), "export a shorter period", nil)
	}
	return nil
}

// add adds a line to what is there of the same model, tier, kind and item. Lines of
// nothing are left out.
func (c *collector) add(l Line) error {
	if err := c.cover(l.Day); err != nil {
		return err
	}
	if !l.USD.Known && !l.Requests.Known && (!l.Quantity.Known || l.Quantity.Value.IsZero()) {
		return nil
	}
	if l.USD.Known {
		c.amounts, l.Rows = true, 1
		c.places = max(c.places, -l.USD.Value.Exponent())
	}
	l.Model, l.Item, l.Tier, l.Account = clean(l.Model), clean(l.Item), clean(l.Tier), clean(l.Account)
	key := Line{Account: l.Account, Day: l.Day, Model: l.Model, Tier: l.Tier, Kind: l.Kind, Item: l.Item}
	have := c.lines[key]
	if have == nil {
		if len(c.lines) == maxLines {
			return event.NewError(event.CodeTooLarge, fmt.Sprintf("the export has more than %d different lines", maxLines), "export a shorter period", nil)
		}
		c.lines[key] = &l
		return nil
	}
	have.Quantity, have.USD, have.Rows = plus(have.Quantity, l.Quantity), plus(have.USD, l.USD), have.Rows+l.Rows
	if l.Requests.Known {
		have.Requests = event.Some(have.Requests.Or(0) + l.Requests.Value)
	}
	return nil
}

func clean(s string) string {
	return event.FirstChars(strings.Map(visible, strings.TrimSpace(s)), maxName)
}

// visible replaces what is no character, and what would control the terminal or the
// direction of the text that a name is shown in.
func visible(r rune) rune {
	if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
		return unicode.ReplacementChar
	}
	return r
}

func plus(a, b Amount) Amount {
	if !a.Known {
		return b
	}
	if !b.Known {
		return a
	}
	return event.Some(a.Value.Add(b.Value))
}

func (c *collector) export() Export {
	x := Export{Feed: c.feed, Days: slices.Sorted(maps.Keys(c.days)), Unknown: slices.Sorted(maps.Keys(c.unknown)), Notes: []string{}}
	for _, n := range slices.Sorted(maps.Keys(c.notes)) {
		x.Notes = append(x.Notes, strings.Replace(n, times, strconv.Itoa(c.notes[n]), 1))
	}
	for _, l := range c.lines {
		x.Lines = append(x.Lines, *l)
	}
	slices.SortFunc(x.Lines, compareLines)
	if c.amounts {
		x.Step = decimal.New(1, -max(c.places, 2))
	}
	return x
}

func compareLines(a, b Line) int {
	key := func(l Line) string {
		return strings.Join([]string{l.Day, l.Account, l.Model, l.Tier, string(l.Kind), l.Item}, "\x00")
	}
	return strings.Compare(key(a), key(b))
}
