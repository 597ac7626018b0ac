package flag

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

// Definition is a feature flag, in PostHog's JSON.
type Definition struct {
	ID            int64   `json:"id,omitempty"`
	Key           string  `json:"key"`
	Name          string  `json:"name,omitempty"` // in PostHog, its description
	Active        bool    `json:"active"`
	Version       int64   `json:"version,omitempty"`
	Filters       Filters `json:"filters"`
	HasExperiment *bool   `json:"has_experiment,omitempty"` // nil if PostHog does not report it

	// Continuity keeps a user's value after sign-in. Only PostHog can evaluate
	// such a flag.
	Continuity bool `json:"ensure_experience_continuity,omitempty"`

	// Bucketing is "device_id" if shares are of devices, not users.
	Bucketing string `json:"bucketing_identifier,omitempty"`
}

// Filters are the rules of a flag.
type Filters struct {
	Groups       []Condition   `json:"groups"` // in this order; the first match decides
	Multivariate *Multivariate `json:"multivariate,omitempty"`

	// Payloads are JSON values by "true" or by variant. PostHog serves them
	// encoded again, as strings.
	Payloads map[string]json.RawMessage `json:"payloads,omitempty"`

	// GroupType is the index of the group type whose members share a value; nil
	// if each user has their own.
	GroupType *int `json:"aggregation_group_type_index,omitempty"`

	// EarlyExit ends the evaluation at the first condition that matches a
	// user outside its share.
	EarlyExit bool `json:"early_exit,omitempty"`
}

// Condition matches if all properties match and the user is in its share.
type Condition struct {
	Properties []Property `json:"properties"`
	Rollout    *float64   `json:"rollout_percentage"`                     // 0 to 100; nil is everybody
	Variant    *string    `json:"variant,omitempty"`                      // the value for all matching users
	GroupType  *int       `json:"aggregation_group_type_index,omitempty"` // instead of the flag's
}

// Multivariate are a flag's variants.
type Multivariate struct {
	Variants []Variant `json:"variants"`
}

// Variant is one value of a flag, and how many of those who have the flag get it.
type Variant struct {
	Key     string  `json:"key"`
	Name    string  `json:"name,omitempty"`
	Rollout float64 `json:"rollout_percentage"` // 0 to 100; all variants together 100
}

// Types of a property. Others are compared like person properties.
const (
	typeCohort = "cohort"
	typeFlag   = "flag"
)

// Property is one comparison: with the person's or the group's property Key, with
// the members of a cohort (Value is its id) or with another flag's value.
type Property struct {
	Key      string   `json:"key"`
	Operator string   `json:"operator,omitempty"`
	Value    any      `json:"value"`
	Type     string   `json:"type,omitempty"` // person (the default), group, cohort, flag
	Negation bool     `json:"negation,omitempty"`
	Chain    []string `json:"dependency_chain,omitempty"` // of a flag: what to decide first, in this order, itself last

	pattern *regexp.Regexp // of the regex operators, once [Parse] has seen it
}

// Cohort is a group of users described by their properties.
type Cohort struct {
	Type    string // AND, or else OR
	Members []Member
}

// Member is a part of a cohort: a cohort within, or a property.
type Member struct {
	Cohort   *Cohort
	Property *Property
}

// Set has a project's flag definitions for local evaluation. It is safe for
// concurrent use; a nil Set has no flags.
type Set struct {
	Flags      []Definition
	GroupTypes map[string]string // names by index, as text: {"0": "company"}
	Cohorts    map[string]Cohort // by id
	Minimal    bool              // $feature_flag_called may be sent in its short form

	byKey map[string]*Definition
}

const (
	maxNesting = 64      // cohorts within cohorts
	maxFlags   = 100_000 // in one answer; far beyond what any project has
)

// Parse parses the answer of PostHog's /flags/definitions. It ignores unknown
// fields, so that newer versions of PostHog remain readable; flags with unknown
// operators are undecided.
func Parse(b []byte) (*Set, error) {
	var in struct {
		Flags      []Definition      `json:"flags"`
		GroupTypes map[string]string `json:"group_type_mapping"`
		Cohorts    map[string]any    `json:"cohorts"`
		Minimal    bool              `json:"minimal_flag_called_events"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("read flag definitions: %w", err)
	}
	if len(in.Flags) > maxFlags {
		return nil, fmt.Errorf("read flag definitions: %d flags, more than %d", len(in.Flags), maxFlags)
	}
	cohorts := make(map[string]Cohort, len(in.Cohorts))
	for id, v := range in.Cohorts {
		c, err := readCohort(v, 0)
		if err != nil {
			return nil, fmt.Errorf("read flag definitions: cohort %s: %w", id, err)
		}
		cohorts[id] = c
	}
	return NewSet(in.Flags, in.GroupTypes, cohorts, in.Minimal), nil
}

// NewSet returns a set of definitions that were not read by [Parse].
func NewSet(flags []Definition, groupTypes map[string]string, cohorts map[string]Cohort, minimal bool) *Set {
	s := &Set{Flags: flags, GroupTypes: groupTypes, Cohorts: cohorts, Minimal: minimal, byKey: make(map[string]*Definition, len(flags))}
	for i := range flags {
		f := &flags[i]
		s.byKey[f.Key] = f
		for c := range f.Filters.Groups {
			for p := range f.Filters.Groups[c].Properties {
				f.Filters.Groups[c].Properties[p].prepare()
			}
		}
	}
	return s
}

// Definition returns the flag of a key.
func (s *Set) Definition(key string) (Definition, bool) {
	if s == nil || s.byKey[key] == nil {
		return Definition{}, false
	}
	return *s.byKey[key], true
}

// UnmarshalJSON also takes a list of definitions' null for none, and keeps apart
// a chain that is missing from one that is empty.
func (p *Property) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return errors.New("a property is not an object")
	}
	*p = readProperty(m)
	return nil
}

func readProperty(m map[string]any) Property {
	p := Property{Value: m["value"]}
	p.Key, _ = m["key"].(string)
	p.Operator, _ = m["operator"].(string)
	p.Type, _ = m["type"].(string)
	p.Negation, _ = m["negation"].(bool)
	if chain, ok := m["dependency_chain"].([]any); ok {
		p.Chain = make([]string, 0, len(chain))
		for _, k := range chain {
			key, _ := k.(string)
			p.Chain = append(p.Chain, key)
		}
	}
	return p
}

func (p *Property) prepare() {
	if p.Operator == opRegex || p.Operator == opNotRegex {
		p.pattern, _ = regexp.Compile(text(p.Value)) // a bad one never matches
	}
}

func readCohort(v any, depth int) (Cohort, error) {
	if depth > maxNesting {
		return Cohort{}, fmt.Errorf("nested deeper than %d", maxNesting)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return Cohort{}, errors.New("not an object")
	}
	var c Cohort
	c.Type, _ = m["type"].(string)
	values, _ := m["values"].([]any)
	for _, v := range values {
		m, ok := v.(map[string]any)
		if !ok {
			continue
		}
		if _, nested := m["values"]; nested {
			inner, err := readCohort(m, depth+1)
			if err != nil {
				return Cohort{}, err
			}
			c.Members = append(c.Members, Member{Cohort: &inner})
			continue
		}
		p := readProperty(m)
		p.prepare()
		c.Members = append(c.Members, Member{Property: &p})
	}
	return c, nil
}
