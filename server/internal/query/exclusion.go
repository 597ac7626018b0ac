package query

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// Exclusion is the users of an experiment who do not count. One event with a
// variant that meets a condition excludes its user, from the first event on.
type Exclusion struct {
	Users      []string    `json:"users,omitempty" jsonschema:"distinct IDs of users who do not count, such as colleagues; at most 500"`
	Properties []Condition `json:"properties,omitempty" jsonschema:"users with an event that meets any of these do not count; at most 10"`
	Bots       string      `json:"bots,omitempty" jsonschema:"exclude: users do not count if an event says that they are a bot (user_agent.synthetic.type bot or test, $browser_type bot, $virt_is_bot or is_bot true); count: they do; exclude if left out"`
	Mixed      bool        `json:"mixed,omitempty" jsonschema:"users who met more than one variant do not count; left out, they count for the first one that they met"`
}

// Condition is a condition on a property of an event.
type Condition struct {
	Property string `json:"property" jsonschema:"name of the property"`
	Operator string `json:"operator,omitempty" jsonschema:"exact (default), icontains (contains, ignoring case) or is_set"`
	Value    string `json:"value,omitempty" jsonschema:"text that it is compared with"`
}

// Values of [Exclusion.Bots].
const (
	BotsExcluded = "exclude"
	BotsCount    = "count"
)

// Operators of a [Condition], as PostHog names them.
const (
	Exact     = "exact"
	Contains  = "icontains"
	IsSet     = "is_set"
	maxUsers  = 500
	maxRules  = 10
	maxUserID = 400
)

// bots are the conditions under which an event says that its user is a bot:
// the attribute of OpenTelemetry's semantic conventions, what posthog-js sets
// where it captures bots, PostHog's own classification, and the plain name.
var bots = []Condition{
	{"user_agent.synthetic.type", Exact, "bot"},
	{"user_agent.synthetic.type", Exact, "test"},
	{"$browser_type", Exact, "bot"},
	{"$virt_is_bot", Exact, "true"},
	{"is_bot", Exact, "true"},
}

// Check returns an error if the exclusion is invalid.
func (e Exclusion) Check() error {
	if len(e.Users) > maxUsers {
		return event.Invalid(fmt.Sprintf("more than %d users are excluded by their ID", maxUsers), "exclude them by a property")
	}
	if len(e.Properties) > maxRules {
		return event.Invalid(fmt.Sprintf("more than %d conditions exclude users", maxRules), "use fewer")
	}
	if !slices.Contains([]string{"", BotsExcluded, BotsCount}, e.Bots) {
		return event.Invalid("exclude.bots is unknown", "use exclude or count")
	}
	for _, u := range e.Users {
		if u == "" || len(u) > maxUserID {
			return event.Invalid("an excluded user's ID is empty or too long", "use the distinct ID of the user's events")
		}
		if err := checkText("user", u); err != nil {
			return err
		}
	}
	for _, c := range e.Properties {
		if c.Property == "" || !slices.Contains([]string{"", Exact, Contains, IsSet}, c.Operator) || (c.Value == "") != (c.Operator == IsSet) {
			return event.Invalid("a condition that excludes users is not complete", "give property, operator (exact, icontains or is_set) and, unless it is is_set, value")
		}
		if err := checkText("property", c.Property+c.Value); err != nil {
			return err
		}
	}
	return nil
}

// excluded is true of events that exclude their user.
func (r *Reader) excluded(e Exclusion) sqlf.Fragment {
	var any []sqlf.Fragment
	if e.Bots != BotsCount {
		for _, c := range bots {
			any = append(any, equals(orEmpty(r.constProperty(c.Property)), c.Value))
		}
	}
	for _, c := range e.Properties {
		switch property := orEmpty(r.sql.property(c.Property)); c.Operator {
		case IsSet:
			any = append(any, sqlf.New("? <> ''", property))
		case Contains:
			any = append(any, sqlf.New("contains(lower(?), CAST(? AS VARCHAR))", property, strings.ToLower(c.Value)))
		default:
			any = append(any, equals(property, c.Value))
		}
	}
	if len(any) == 0 {
		return sqlf.Raw("false")
	}
	return sqlf.Or(any...)
}
