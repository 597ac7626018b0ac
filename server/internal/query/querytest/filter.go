package querytest

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/filter"
)

// Meets reports whether an event meets a filter. It is the specification of
// query.Filter's Where.
func Meets(e *event.Event, x filter.Expr) bool {
	return !slices.ContainsFunc(x.Terms, func(t filter.Term) bool {
		if t.Any != nil {
			return !slices.ContainsFunc(t.Any, func(alt filter.Expr) bool { return Meets(e, alt) })
		}
		return holds(e, t) == t.Not
	})
}

func holds(e *event.Event, t filter.Term) bool {
	if t.Field == "" {
		return contains(strings.Join([]string{e.Name, e.DistinctID, e.Provider, e.ModelAsked, e.Model, e.PromptName, e.Surface, e.ErrorType, e.SpanName, Text(e, "plan")}, "\x00"), t.Values[0])
	}
	values := Values(e, t.Field)
	if t.Op == filter.Exists {
		return len(values) > 0
	}
	return slices.ContainsFunc(values, func(v string) bool {
		switch t.Op {
		case filter.Is:
			return slices.ContainsFunc(t.Values, func(want string) bool {
				n, isNumber := number(want)
				have, ok := number(v)
				return v == want || isNumber && ok && n == have && t.Field != "prompt_version" && !strings.HasPrefix(t.Field, "property.")
			})
		case filter.Contains:
			return contains(v, t.Values[0])
		case filter.Starts:
			return strings.HasPrefix(strings.ToLower(v), strings.ToLower(t.Values[0]))
		case filter.Ends:
			return strings.HasSuffix(strings.ToLower(v), strings.ToLower(t.Values[0]))
		}
		have, ok := number(v)
		limit, _ := number(t.Values[0])
		switch t.Op {
		case filter.Over:
			return ok && have > limit
		case filter.AtLeast:
			return ok && have >= limit
		case filter.Under:
			return ok && have < limit
		case filter.AtMost:
			return ok && have <= limit
		}
		high, _ := number(t.Values[1])
		return ok && have >= limit && have <= high
	})
}

func contains(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}

// number reads a number, or a duration as its seconds.
func number(s string) (float64, bool) {
	if d, err := time.ParseDuration(s); err == nil && s != "0" {
		return d.Seconds(), true
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}

// Values are the values that an event has in a field, as filters write them.
func Values(e *event.Event, field string) (out []string) {
	text := func(values ...string) {
		for _, v := range values {
			if v != "" {
				out = append(out, v)
				return
			}
		}
	}
	whole := func(n event.Int) {
		if n.Known {
			out = append(out, strconv.FormatInt(n.Value, 10))
		}
	}
	took := func(d event.Opt[time.Duration]) {
		if d.Known {
			out = append(out, d.Value.Truncate(time.Microsecond).String())
		}
	}
	switch field {
	case "status":
		text(string(e.Status))
	case "kind":
		for kind, is := range map[string]bool{"calls": e.IsCosted(), "errors": e.IsError, "outcomes": IsOutcome(e), "tools": IsTool(e), "uncosted": e.IsCosted() && !e.Cost.Total.Known} {
			if is {
				out = append(out, kind)
			}
		}
	case "event":
		text(e.Name)
	case "provider":
		text(e.Provider)
	case "model":
		text(e.Model, e.ModelAsked)
	case "requested_model":
		text(e.ModelAsked, e.Model)
	case "operation":
		text(e.Operation)
	case "env":
		text(e.Environment)
	case "surface":
		text(e.Surface)
	case "task":
		text(e.TaskType)
	case "tag":
		out = e.Tags
	case "tool":
		if IsTool(e) {
			text(Text(e, "gen_ai.tool.name"), e.SpanName)
		}
	case "name":
		text(e.SpanName)
	case "stream":
		if e.Stream.Known {
			text(strconv.FormatBool(e.Stream.Value))
		}
	case "prompt":
		text(e.PromptName)
		if v := e.PromptVersion + e.PromptVersionID; v != "" && e.PromptName != "" {
			out = append(out, e.PromptName+"@"+v)
		}
	case "prompt_version":
		text(e.PromptVersion, e.PromptVersionID)
	case "user":
		text(e.DistinctID)
	case "session":
		text(e.SessionID)
	case "generation":
		text(e.UUID)
	case "error_type":
		text(e.ErrorType)
	case "http":
		if e.HTTPStatus != 0 {
			text(strconv.Itoa(e.HTTPStatus))
		}
	case "cost":
		known := e.Cost.Sum()
		if e.Cost.Total.Known {
			known = e.Cost.Total
		}
		if known.Known {
			text(known.Value.String())
		}
	case "priced":
		if e.IsCosted() {
			text(strconv.FormatBool(e.Cost.Total.Known))
		}
	case "input_tokens":
		whole(allInput(e.Usage))
	case "output_tokens":
		whole(e.Usage.Output)
	case "tokens":
		whole(e.Usage.Tokens())
	case "cache_read":
		whole(e.Usage.CacheRead)
	case "latency":
		took(e.Latency)
	case "ttft":
		took(e.TimeToFirstToken)
	case "speed":
		if us := e.Latency.Value.Microseconds(); e.Usage.Output.Known && us > 0 {
			text(strconv.FormatFloat(float64(e.Usage.Output.Value)*1e6/float64(us), 'g', -1, 64))
		}
	case "request_size":
		if e.RequestBytes != 0 {
			text(strconv.FormatInt(int64(e.RequestBytes), 10))
		}
	default:
		if name, ok := strings.CutPrefix(field, "property."); ok {
			text(Text(e, name))
		} else if key, ok := strings.CutPrefix(field, "flag."); ok {
			text(e.Flags[key])
		} else if kind, ok := strings.CutPrefix(field, "group."); ok {
			text(e.Groups[kind])
		} else {
			panic("querytest: no field " + field)
		}
	}
	return out
}
