package eval

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/abadojack/whatlanggo"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

// Reason codes of the built-in checks. A schema's are "schema_" and the keyword
// that was broken; a language's "language_" and the code of the one that was found.
const (
	ReasonEmpty    = "empty_output"
	ReasonNotJSON  = "not_json"
	ReasonMissing  = "pattern_missing"
	ReasonFound    = "pattern_found"
	ReasonShort    = "too_short"
	ReasonLong     = "too_long"
	ReasonRefused  = "refused"
	reasonSchema   = "schema_"
	reasonLanguage = "language_"
)

// answer is the part of a generation that checks read.
type answer struct {
	event   *event.Event
	text    string
	tools   bool // it calls tools
	content bool // the text is known, even if there is none
}

func answerOf(e *event.Event) answer {
	a := answer{event: e, content: len(e.Content.Output) > 0 && string(e.Content.Output) != "null"}
	a.text, a.tools = privacy.AnswerText(e.Content.Output)
	return a
}

// AnswerOf returns a generation's answer as checks read it.
func AnswerOf(e *event.Event) string { return answerOf(e).text }

// CallsTools reports whether a generation calls a tool.
func CallsTools(e *event.Event) bool { return answerOf(e).tools }

// verdict is the result of a built-in check. ok is false if the check does not
// apply to the answer.
type verdict struct {
	passed bool
	reason string
	ok     bool
}

func pass() verdict              { return verdict{passed: true, ok: true} }
func fail(reason string) verdict { return verdict{reason: reason, ok: true} }

// program is a check made ready to run.
type program func(ctx context.Context, a answer) (verdict, error)

// compile compiles a check, or returns an error for invalid settings. A judge's
// program is nil: [Runner] calls the model.
func compile(c *Check) (program, error) {
	switch c.Kind {
	case KindSchema:
		return compileSchema(c.Schema)
	case KindRequired, KindForbidden:
		return compilePatterns(c.Patterns, c.Kind == KindRequired)
	case KindLength:
		return compileLength(c)
	case KindLanguage:
		return compileLanguages(c.Languages)
	case KindRefusal:
		return func(_ context.Context, a answer) (verdict, error) { return refusal(a), nil }, nil
	case KindJudge:
		if c.Judge == nil {
			return nil, event.Invalid("the check has no judge settings", `set "judge": provider, model, instruction and daily_usd`)
		}
		return nil, c.Judge.prepare()
	}
	return nil, event.Invalid(fmt.Sprintf("unknown check kind %q", c.Kind), "use "+kindNames())
}

// ofText runs f on answers that are words: not where the content was not kept,
// nor where the model called a tool in place of answering.
func ofText(f func(text string) verdict) program {
	return func(_ context.Context, a answer) (verdict, error) {
		if !a.content || a.tools && a.text == "" {
			return verdict{}, nil
		}
		return f(a.text), nil
	}
}

// nowhere does not load schemas from other hosts: a check must not cause
// requests.
type nowhere struct{}

func (nowhere) Load(string) (any, error) {
	return nil, errors.New("references to other documents are not followed")
}

// schemaAt is the name under which a check's schema is known to the library.
const schemaAt = "check.json"

func compileSchema(raw json.RawMessage) (program, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, event.Invalid("the check has no schema", `set "schema" to a JSON Schema, such as {"type":"object","required":["answer"]}`)
	}
	if len(raw) > maxSchema {
		return nil, event.NewError(event.CodeTooLarge, "the schema is longer than 64 KiB", "shorten it", nil)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, event.NewError(event.CodeInvalid, "the schema is not JSON", "paste one JSON Schema document", err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(nowhere{})
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource(schemaAt, doc); err != nil {
		return nil, event.NewError(event.CodeInvalid, "the schema cannot be used", "see what JSON Schema allows at json-schema.org", err)
	}
	s, err := c.Compile(schemaAt)
	if err != nil {
		hint := "check it against its draft at json-schema.org; references to other documents are not followed"
		var bad *jsonschema.SchemaValidationError
		if errors.As(err, &bad) {
			hint = "it does not conform to its draft: " + event.FirstChars(bad.Err.Error(), 300)
		}
		return nil, event.NewError(event.CodeInvalid, "the schema cannot be used", hint, err)
	}
	return ofText(func(text string) verdict {
		if text == "" {
			return fail(ReasonEmpty)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			return fail(ReasonNotJSON)
		}
		if absurd(v) {
			return fail(reasonSchema + "number")
		}
		err = s.Validate(v)
		if err == nil {
			return pass()
		}
		var wrong *jsonschema.ValidationError
		if errors.As(err, &wrong) {
			return fail(reasonSchema + keyword(wrong))
		}
		return fail(reasonSchema + "invalid")
	}), nil
}

// absurd reports whether there is a number with an exponent beyond what any double
// has. The library computes exactly, and would write out all its digits.
func absurd(v any) bool {
	switch v := v.(type) {
	case json.Number:
		_, exponent, ok := strings.Cut(strings.ToLower(v.String()), "e")
		return ok && len(strings.TrimLeft(exponent, "+-0")) > 3
	case []any:
		return slices.ContainsFunc(v, absurd)
	case map[string]any:
		for _, x := range v {
			if absurd(x) {
				return true
			}
		}
	}
	return false
}

// keyword is the JSON Schema keyword that an answer breaks first, at the deepest
// place that the library names.
func keyword(e *jsonschema.ValidationError) string {
	for len(e.Causes) > 0 {
		e = e.Causes[0]
	}
	if _, ok := e.ErrorKind.(*kind.FalseSchema); ok {
		return "false"
	}
	path := e.ErrorKind.KeywordPath()
	if len(path) == 0 {
		return "invalid"
	}
	if word := path[0]; codeForm.MatchString(word) {
		return word
	}
	return "invalid"
}

func compilePatterns(patterns []string, required bool) (program, error) {
	if len(patterns) == 0 {
		return nil, event.Invalid("the check has no pattern", "add one or more regular expressions, one per line")
	}
	if len(patterns) > maxPatterns {
		return nil, event.Invalid("the check has too many patterns", fmt.Sprintf("use at most %d", maxPatterns))
	}
	var list []*regexp.Regexp
	for i, p := range patterns {
		if len(p) > maxPatternLen {
			return nil, event.Invalid(fmt.Sprintf("pattern %d is too long", i+1), fmt.Sprintf("use at most %d bytes", maxPatternLen))
		}
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, event.NewError(event.CodeInvalid, fmt.Sprintf("pattern %d is not a regular expression", i+1), strings.TrimPrefix(err.Error(), "error parsing regexp: ")+"; the syntax is RE2's: no look-around, no back-references", err)
		}
		list = append(list, re)
	}
	return ofText(func(text string) verdict {
		for _, re := range list {
			if found := re.MatchString(text); found != required {
				if required {
					return fail(ReasonMissing)
				}
				return fail(ReasonFound)
			}
		}
		return pass()
	}), nil
}

func compileLength(c *Check) (program, error) {
	switch {
	case c.MinChars < 0 || c.MaxChars < 0 || c.MinChars > maxCheckChars || c.MaxChars > maxCheckChars:
		return nil, event.Invalid("a length limit is out of range", "use a number of characters, up to 10,000,000")
	case c.MinChars == 0 && c.MaxChars == 0:
		return nil, event.Invalid("the check has no limit", "set a minimum or maximum length, or both")
	case c.MaxChars > 0 && c.MinChars > c.MaxChars:
		return nil, event.Invalid("the minimum length is greater than the maximum", "swap them")
	}
	low, high := int64(c.MinChars), int64(c.MaxChars)
	return func(_ context.Context, a answer) (verdict, error) {
		n := event.Some(int64(utf8.RuneCountInString(a.text)))
		if !a.content {
			n = a.event.OutputChars // counted before the content was dropped
		}
		switch {
		case !n.Known || a.tools && a.text == "" || !a.content && a.event.OutputCategory == privacy.CategoryTool:
			return verdict{}, nil
		case n.Value < low:
			return fail(ReasonShort), nil
		case high > 0 && n.Value > high:
			return fail(ReasonLong), nil
		}
		return pass(), nil
	}, nil
}

// leastLetters is the minimum number of letters to detect a language: with
// fewer the check is skipped.
const leastLetters = 20

func compileLanguages(codes []string) (program, error) {
	if len(codes) == 0 {
		return nil, event.Invalid("the check has no language", "use ISO 639-1 codes such as en, de, pt")
	}
	for i, code := range codes {
		codes[i] = strings.ToLower(code)
		if !slices.Contains(Languages(), codes[i]) {
			return nil, event.Invalid(fmt.Sprintf("the language %q cannot be detected", code), "use one of "+strings.Join(Languages(), ", "))
		}
	}
	return ofText(func(text string) verdict {
		letters := 0
		for _, r := range text {
			if unicode.IsLetter(r) {
				letters++
			}
		}
		if letters < leastLetters {
			return verdict{}
		}
		info := whatlanggo.Detect(text)
		code := info.Lang.Iso6391()
		switch {
		case slices.Contains(codes, code):
			return pass()
		case !info.IsReliable():
			return verdict{} // rather nothing than a guess
		}
		return fail(reasonLanguage + cmp.Or(code, "other"))
	}), nil
}

// Languages are the ISO 639-1 codes of the languages that a check can detect,
// in order.
func Languages() []string { return languages }

var languages = func() []string {
	var out []string
	for lang := range whatlanggo.Langs {
		if code := lang.Iso6391(); code != "" && !slices.Contains(out, code) {
			out = append(out, code)
		}
	}
	slices.Sort(out)
	return out
}()

// refusal needs no content: an answer's category is determined before
// privacy drops the text.
func refusal(a answer) verdict {
	switch a.event.OutputCategory {
	case "", privacy.CategoryError:
		if !a.content && a.event.Status != event.StatusBlocked {
			return verdict{}
		}
	}
	if a.event.OutputCategory == privacy.CategoryRefusal || a.event.Status == event.StatusBlocked {
		return fail(ReasonRefused)
	}
	return pass()
}

// strictJSON reads one JSON value and nothing else, with the fields of v only.
func strictJSON(text string, v any) error {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}
