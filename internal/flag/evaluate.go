package flag

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// User is a user with the known properties. Values are those of JSON: text,
// numbers of any Go type, booleans, lists.
type User struct {
	DistinctID      string
	DeviceID        string // for flags that go by device; "" is unknown
	Properties      map[string]any
	Groups          map[string]string         // keys by group type: {"company": "acme"}
	GroupProperties map[string]map[string]any // by group type

	// Now is what relative dates ("-7d") are measured from.
	Now time.Time
}

// Value is a flag's value for a user: off, on, or a variant.
type Value struct {
	Enabled bool
	Variant string // "" where the flag has no variants, or none for this user
}

// Any returns the value as PostHog writes it: false, true or the variant's key.
func (v Value) Any() any {
	if v.Enabled && v.Variant != "" {
		return v.Variant
	}
	return v.Enabled
}

// String is [Value.Any] as text. It is also the key of the value's payload.
func (v Value) String() string {
	if v.Enabled && v.Variant != "" {
		return v.Variant
	}
	return strconv.FormatBool(v.Enabled)
}

// ValueOf reads what PostHog writes: false, true or a variant's key. Anything
// else, null too, is no flag.
func ValueOf(v any) Value {
	switch v := v.(type) {
	case bool:
		return Value{Enabled: v}
	case string:
		return Value{Enabled: v != "", Variant: v}
	}
	return Value{}
}

var (
	// ErrUnknown is returned if no flag has the key.
	ErrUnknown = errors.New("no such flag")
	// ErrUndecided is returned if only PostHog can evaluate the flag, because
	// it has more data on users.
	ErrUndecided = errors.New("the flag cannot be decided here")

	// errOpen is an undecided property: another condition may still decide. The
	// other reasons for ErrUndecided end the search.
	errOpen = fmt.Errorf("%w: a property is not known", ErrUndecided)
)

func undecided(why string) error { return fmt.Errorf("%w: %s", ErrUndecided, why) }

// Evaluate decides one flag. An error is [ErrUnknown] or [ErrUndecided].
func (s *Set) Evaluate(key string, u User) (Value, error) {
	if s == nil || s.byKey[key] == nil {
		return Value{}, ErrUnknown
	}
	d := s.byKey[key]
	if d.Continuity {
		return Value{}, undecided("it keeps its value over the sign-in")
	}
	if !d.Active {
		return Value{}, nil
	}
	e := &evaluation{set: s, user: u, known: make(map[string]outcome)}
	if d.Filters.GroupType == nil {
		return e.decide(d, e.personBasis(d))
	}
	b, ok := e.groupBasis(*d.Filters.GroupType)
	if !ok {
		return Value{}, undecided("it goes by groups, and the user's is not known")
	}
	return e.decide(d, b)
}

// Payload returns the JSON payload of a flag's value; nil if there is none.
func (s *Set) Payload(key string, v Value) json.RawMessage {
	if s == nil || s.byKey[key] == nil || !v.Enabled {
		return nil
	}
	raw := s.byKey[key].Filters.Payloads[v.String()]
	var encoded string
	if json.Unmarshal(raw, &encoded) == nil && json.Valid([]byte(encoded)) {
		return json.RawMessage(encoded)
	}
	return raw
}

// evaluation is the work on one question. Flags that others depend on are decided
// once.
type evaluation struct {
	set   *Set
	user  User
	known map[string]outcome
	depth int
}

type outcome struct {
	value Value
	err   error
}

// basis is the user or group whose properties a condition checks, and whose id
// determines the share.
type basis struct {
	id         string
	properties map[string]any
}

func (e *evaluation) personBasis(d *Definition) basis {
	b := basis{id: e.user.DistinctID, properties: with(e.user.Properties, "distinct_id", e.user.DistinctID)}
	if d.Bucketing == "device_id" && e.user.DeviceID != "" {
		b.id = e.user.DeviceID
	}
	return b
}

func (e *evaluation) groupBasis(index int) (basis, bool) {
	kind, ok := e.set.GroupTypes[strconv.Itoa(index)]
	if !ok {
		return basis{}, false
	}
	key, ok := e.user.Groups[kind]
	if !ok {
		return basis{}, false
	}
	return basis{id: key, properties: with(e.user.GroupProperties[kind], "$group_key", key)}, true
}

// with adds a missing property in a copy.
func with(m map[string]any, key string, value any) map[string]any {
	if _, ok := m[key]; ok {
		return m
	}
	out := make(map[string]any, len(m)+1)
	for k, v := range m {
		out[k] = v
	}
	out[key] = value
	return out
}

// maxDepth ends flags and cohorts that depend on each other in a circle.
const maxDepth = 100

// decide returns the value of the first matching condition.
func (e *evaluation) decide(d *Definition, of basis) (Value, error) {
	open := false
	for i := range d.Filters.Groups {
		c := &d.Filters.Groups[i]
		b := of
		if c.GroupType != nil && (d.Filters.GroupType == nil || *c.GroupType != *d.Filters.GroupType) {
			// A flag for persons with a condition for groups: users without
			// such a group do not match; if nothing is known of the group,
			// PostHog decides.
			var ok bool
			if b, ok = e.groupBasis(*c.GroupType); !ok {
				continue
			}
			if e.user.GroupProperties[e.set.GroupTypes[strconv.Itoa(*c.GroupType)]] == nil {
				open = true
				continue
			}
		}
		ok, err := e.holds(c, b)
		switch {
		case errors.Is(err, errOpen):
			open = true
		case err != nil:
			return Value{}, err
		case !ok:
		case c.Rollout == nil || inShare(d.Key, b.id, *c.Rollout):
			if c.Variant != nil && d.hasVariant(*c.Variant) {
				return Value{Enabled: true, Variant: *c.Variant}, nil
			}
			return d.variant(b.id), nil
		case d.Filters.EarlyExit && open:
			return Value{}, errOpen
		case d.Filters.EarlyExit:
			return Value{}, nil
		}
	}
	if open {
		return Value{}, errOpen
	}
	return Value{}, nil
}

// holds reports whether all properties of a condition match.
func (e *evaluation) holds(c *Condition, b basis) (bool, error) {
	for i := range c.Properties {
		ok, err := e.matches(&c.Properties[i], b)
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (e *evaluation) matches(p *Property, b basis) (bool, error) {
	switch p.Type {
	case typeCohort:
		return e.inCohortOf(p, b)
	case typeFlag:
		return e.flagIs(p)
	}
	return p.match(b.properties, e.user.Now)
}

func (e *evaluation) inCohortOf(p *Property, b basis) (bool, error) {
	c, ok := e.set.Cohorts[text(p.Value)]
	if !ok {
		return false, undecided("only PostHog knows who is in a static cohort")
	}
	if p.Operator == "not_in" {
		return false, undecided("an operator for cohorts is not known")
	}
	if e.depth++; e.depth > maxDepth {
		return false, undecided("cohorts go in a circle")
	}
	defer func() { e.depth-- }()
	return e.inCohort(&c, b)
}

// inCohort takes a property that is not known for one that does not match, as
// PostHog's Go library does; only where that settles nothing is the cohort open.
func (e *evaluation) inCohort(c *Cohort, b basis) (bool, error) {
	if len(c.Members) == 0 {
		return true, nil
	}
	and, open := c.Type == "AND", false
	for _, m := range c.Members {
		var (
			ok     bool
			err    error
			negate bool
		)
		if m.Cohort != nil {
			ok, err = e.inCohort(m.Cohort, b)
		} else {
			ok, err = e.matches(m.Property, b)
			negate = m.Property.Negation
		}
		switch {
		case errors.Is(err, errOpen):
			open = true
		case err != nil:
			return false, err
		}
		if ok = ok != negate; ok != and {
			return ok, nil // one is enough for OR, one too few for AND
		}
	}
	if open {
		return false, errOpen
	}
	return and, nil
}

// flagIs compares the value of another flag. Those in its chain are decided first,
// each once; a flag that is being decided further up depends on itself.
func (e *evaluation) flagIs(p *Property) (bool, error) {
	if p.Operator != "flag_evaluates_to" || p.Value == nil || len(p.Chain) == 0 {
		return false, errOpen // no chain at all, or the empty one of a circle
	}
	for _, key := range p.Chain {
		o, ok := e.known[key]
		if !ok {
			o = e.dependency(key)
		}
		if o.err != nil && !ok {
			return false, errOpen
		}
	}
	o, ok := e.known[p.Key]
	if !ok || o.err != nil {
		return false, errOpen
	}
	switch want := p.Value.(type) {
	case bool:
		return want == o.value.Enabled, nil
	case string:
		return o.value.Variant != "" && want == o.value.Variant, nil
	}
	return false, nil
}

func (e *evaluation) dependency(key string) outcome {
	d := e.set.byKey[key]
	e.known[key] = outcome{err: errOpen} // until it is decided: a use meanwhile is a cycle
	if d == nil || d.Continuity || d.Filters.GroupType != nil {
		return e.known[key]
	}
	var o outcome
	if d.Active {
		o.value, o.err = e.decide(d, e.personBasis(d))
	}
	e.known[key] = o
	return o
}
