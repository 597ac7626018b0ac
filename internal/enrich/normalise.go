package enrich

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

// Limits of values that a caller can set. Lengths are in characters, and longer
// values are truncated; PostHog's own limits are in package event.
const (
	MaxLabelLen = 100     // surfaces, environments, task types, tags
	maxNameLen  = 200     // models, providers, prompts, stop reasons …
	maxTags     = 50      // tags of one event
	maxFlags    = 200     // feature flags of one event
	maxGroups   = 20      // groups of one event; PostHog has 5 group types a project
	maxProps    = 300     // custom properties of one event
	maxPropsLen = 1 << 20 // bytes of all custom properties; PostHog refuses events above about 1 MiB
	cutPropLen  = 8 << 10 // bytes to which the strings of the largest are truncated beyond that
	maxDepth    = 1_000   // nesting of JSON; recursive readers must not run out of stack
)

// Note is the custom property in which [Normalise] records what it had to
// remove from an event. It quotes nothing of the event.
const Note = "hedgerow_note"

// A time further in the future than this comes from a wrong clock, as in
// PostHog (contract section 1.2), and so does one before 2000.
const maxAhead = 23 * time.Hour

var minTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Normalise establishes what every later stage relies on, in place, at the time
// now. It rejects nothing: invalid values are repaired, truncated or made unknown.
// It is idempotent. Afterwards:
//
//   - UUID is a UUID in canonical form: a new one of version 7 if there was none,
//     and one derived from the text if that was not a UUID, so that a retry has
//     the same one.
//   - Timestamp is in UTC, in whole microseconds (the precision of every sink), not
//     before 2000 and not more than 23 h ahead of now; otherwise it is now.
//   - Every text is valid UTF-8, trimmed, without control characters (except line
//     ends and tabs in messages) and of limited length. Providers are in lower case;
//     models keep their case, since names of Azure deployments and own models are
//     case-sensitive.
//   - Ids contain only characters that PostHog accepts ([event.CleanID]). An LLM
//     event has a trace id and, unless it is a trace or refers to one, a span id:
//     its own uuid. No span is its own parent.
//   - Every JSON value is valid and nested at most 1,000 deep; other values become
//     JSON strings, and so do numbers outside of float64. Unpaired surrogates become
//     U+FFFD. The event is marked as valid ([event.Event.MarkRawValid]); an event
//     with that mark is not validated again.
//   - Numbers are within [event.Bounds]: others are unknown, and listed in the
//     property [event.Warnings]. The totals of tokens and of cache writes are
//     computed if their parts are known.
//   - IsError, Status, ErrorType and ErrorCode are set on an LLM event, and on a call
//     that its application reports itself: [event.Event.SettleOutcome].
//   - A reported call has the same fields as any other: [event.Event.ReadReported].
//   - Any other event with one of the properties trace_id, span_id, generation_id,
//     prompt_name or prompt_version_id is assigned to that trace, call or prompt, as
//     with PostHog's names; so is an evaluation from PostHog. A call's prompt may
//     also be named by prompt_name, prompt_version and prompt_version_id.
//   - Surface, environment and task type are fields, whichever of their names was
//     used: [event.Event.AdoptLabels].
//   - A prompt version that is an id (pv_…) is in the version id's field.
//   - The properties input_length_bucket and output_category of a call take
//     precedence over derived values.
//   - An $ai_error that is an object stays a property, and its message is the
//     event's.
//   - There are at most 300 custom properties, of 1 MiB in total. [Note] lists what
//     was removed.
//
// A missing project or name is not added: [event.Event.Validate] rejects such an
// event.
func Normalise(e *event.Event, now time.Time) {
	var notes []string
	validateRaw(e)
	normaliseIdentity(e, now)
	e.ReadReported()
	adoptNames(e)
	normaliseTexts(e)
	normaliseIDs(e)
	normaliseCounts(e)
	normalisePrompt(e)
	notes = normaliseLabels(e, notes)
	notes = normaliseJSON(e, notes)
	normaliseOutcome(e)
	if e.User == "" && e.IsCosted() && (e.Source == event.SourceGateway || e.Source == event.SourceOTLP) {
		e.User = e.DistinctID // set from a header, a key or an attribute
	}
	if len(notes) > 0 {
		setNote(e, strings.Join(notes, "; "))
	}
}

// ownIDs is the namespace of uuids derived from ids that are not UUIDs.
var ownIDs = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/hedgerow/hedgerow/event"))

func normaliseIdentity(e *event.Event, now time.Time) {
	switch id, err := uuid.Parse(strings.TrimSpace(e.UUID)); {
	case err == nil && id != uuid.Nil:
		e.UUID = id.String()
	case err != nil && strings.TrimSpace(e.UUID) != "":
		e.UUID = uuid.NewSHA1(ownIDs, []byte(e.ProjectID+"/"+e.UUID)).String()
	default:
		e.UUID = event.NewID()
	}
	if t := e.Timestamp; t.Before(minTime) || t.After(now.Add(maxAhead)) {
		if !t.IsZero() {
			e.OutOfRange("timestamp")
		}
		e.Timestamp = now
	}
	e.Timestamp = e.Timestamp.UTC().Truncate(time.Microsecond)
}

// adoptNames fills surface, environment and task type
// ([event.Event.AdoptLabels]). It assigns an outcome to its trace, its call and
// its prompt if they are named by plain properties, as in the llm_events
// schema, a call to its prompt, and PostHog's own evaluations to their
// generation. An error that is an object sets the event's message. The
// properties are kept.
func adoptNames(e *event.Event) {
	if len(e.Properties) == 0 {
		return
	}
	defer e.AdoptLabels() // once the trace is known
	adopt := func(name string, to *string) {
		if v := e.Properties[name]; *to == "" && len(v) > 2 && v[0] == '"' {
			*to = gjson.ParseBytes(v).String()
		}
	}
	if v := e.Properties["$ai_error"]; e.IsLLM() && len(v) > 2 && v[0] == '{' {
		for _, f := range []struct {
			to *string
			at []string
		}{
			{&e.ErrorMessage, []string{"message", "error.message", "error"}},
			{&e.ErrorType, []string{"type", "error.type", "name"}},
			{&e.ErrorCode, []string{"code", "error.code"}},
		} {
			for _, at := range f.at {
				if m := gjson.GetBytes(v, at); *f.to == "" && m.Type == gjson.String {
					*f.to = m.Str
				}
			}
		}
	}
	switch {
	case !e.IsLLM():
		adopt("trace_id", &e.TraceID)
		adopt("prompt_name", &e.PromptName)
		adopt("prompt_version_id", &e.PromptVersionID)
	case e.Name == event.Generation, e.Name == event.Embedding, e.Name == event.Span, e.Name == event.Trace:
		// Fields that hedgerow would otherwise derive.
		adopt("input_length_bucket", &e.InputLengthBucket)
		adopt("output_category", &e.OutputCategory)
		// Properties of a wrapper under the caller's own names. The two ways to
		// name the prompt are not mixed.
		if e.PromptName == "" && e.PromptVersionID == "" {
			adopt("prompt_name", &e.PromptName)
			adopt("prompt_version_id", &e.PromptVersionID)
			adopt("prompt_version", &e.PromptVersion)
			if n := gjson.ParseBytes(e.Properties["prompt_version"]); e.PromptVersion == "" && n.Type == gjson.Number && n.Num == float64(int64(n.Num)) {
				e.PromptVersion = strconv.FormatInt(int64(n.Num), 10)
			}
		}
		return
	case e.Name == event.Metric, e.Name == event.Feedback, e.Name == "$ai_evaluation":
		adopt("$ai_target_event_id", &e.ParentID)
	default:
		return
	}
	if e.IsReportedCall() || e.Name == event.RequestStarted {
		return // those ids are its own
	}
	adopt("span_id", &e.ParentID)
	adopt("generation_id", &e.ParentID)
}

func normaliseTexts(e *event.Event) {
	for _, f := range texts {
		s := f.at(e)
		switch f.kind {
		case "id":
			*s = event.CleanID(strings.TrimSpace(*s))
		case "message":
			*s = text(*s, f.max)
		default:
			*s = SingleLine(*s, f.max)
		}
	}
	e.Provider = strings.ToLower(e.Provider)
}

// texts are the text fields and their limits.
var texts = func() (list []textField) {
	for _, f := range event.Fields {
		if at, ok := f.At.(func(*event.Event) *string); ok && f.Kind.Name != "" {
			list = append(list, textField{at, f.Kind.Name, int(f.Kind.Max)})
		}
	}
	return list
}()

type textField struct {
	at   func(*event.Event) *string
	kind string
	max  int // characters
}

func normaliseIDs(e *event.Event) {
	switch e.Name {
	case event.Generation, event.Embedding, event.Span:
		if e.SpanID == "" {
			e.SpanID = e.UUID
		}
		fallthrough
	case event.Trace:
		if e.TraceID == "" {
			e.TraceID = e.UUID
		}
	}
	if e.ParentID == e.SpanID {
		e.ParentID = ""
	}
}

func normaliseCounts(e *event.Event) {
	e.Bound()
	u := &e.Usage
	if !u.CacheWrite.Known && (u.CacheWrite5m.Known || u.CacheWrite1h.Known) {
		u.CacheWrite = event.Some(u.CacheWrite5m.Or(0) + u.CacheWrite1h.Or(0))
		e.Bound()
	}
	// Cached tokens can be added only if it is known whether the input count
	// includes them.
	cached := u.CacheRead.Or(0) + u.CacheWrite.Or(0)
	if u.Input.Known && (u.Output.Known || e.Name == event.Embedding) && (cached == 0 || u.CacheExclusive.Known) {
		u.Total = u.Tokens()
	}
}

// normalisePrompt moves a version id from the version to its own field.
func normalisePrompt(e *event.Event) {
	if e.PromptVersionID == "" && strings.HasPrefix(e.PromptVersion, "pv_") {
		e.PromptVersion, e.PromptVersionID = "", e.PromptVersion
	}
}

func normaliseLabels(e *event.Event, notes []string) []string {
	if len(e.Tags) > 0 {
		tags := make([]string, 0, min(len(e.Tags), maxTags))
		left := 0
		for _, t := range e.Tags {
			switch t = SingleLine(t, MaxLabelLen); {
			case t == "" || slices.Contains(tags, t):
			case len(tags) == maxTags:
				left++
			default:
				tags = append(tags, t)
			}
		}
		e.Tags = tags
		notes = noteLeft(notes, left, "tags")
	}
	var left int
	e.Flags, left = normaliseMap(e.Flags, maxFlags)
	notes = noteLeft(notes, left, "feature flags")
	e.Groups, left = normaliseMap(e.Groups, maxGroups)
	return noteLeft(notes, left, "groups")
}

// normaliseMap cleans keys and values. Of too many, the first by key are kept.
func normaliseMap(m map[string]string, most int) (map[string]string, int) {
	clean := len(m) <= most
	for k, v := range m {
		if !clean {
			break
		}
		clean = k != "" && SingleLine(k, maxNameLen) == k && SingleLine(v, maxNameLen) == v
	}
	if clean {
		return m, 0
	}
	out := make(map[string]string, min(len(m), most))
	left := 0
	for _, k := range slices.Sorted(maps.Keys(m)) {
		switch key := SingleLine(k, maxNameLen); {
		case key == "":
		case len(out) == most:
			left++
		default:
			out[key] = SingleLine(m[k], maxNameLen)
		}
	}
	return out, left
}

func noteLeft(notes []string, n int, what string) []string {
	if n == 0 {
		return notes
	}
	return append(notes, fmt.Sprintf("%d %s left out", n, what))
}

func normaliseJSON(e *event.Event, notes []string) []string {
	for _, part := range e.Content.Parts() {
		*part = sanitize(*part)
	}
	e.ModelParameters, notes = normaliseProps(e.ModelParameters, notes, "model parameters")
	e.ProviderMetadata, notes = normaliseProps(e.ProviderMetadata, notes, "provider metadata")
	e.Properties, notes = normaliseProps(e.Properties, notes, "properties")
	return notes
}

// normaliseProps returns m itself if nothing changes: an event may share its
// maps with its source, so they are never modified.
func normaliseProps(m map[string]json.RawMessage, notes []string, what string) (map[string]json.RawMessage, []string) {
	clean, size := true, 0
	for k, v := range m {
		size += len(k) + len(v)
		clean = clean && k != "" && SingleLine(k, maxNameLen) == k && len(v) > 0 && !isOdd(v)
	}
	most := maxProps
	for _, own := range [...]string{Note, event.Warnings} {
		if _, ok := m[own]; ok {
			most++ // hedgerow's own properties do not count
		}
	}
	if clean && len(m) <= most && size <= maxPropsLen {
		return m, notes
	}
	out := make(map[string]json.RawMessage, min(len(m), most))
	left, kept := 0, 0
	size = 0
	for _, k := range slices.Sorted(maps.Keys(m)) {
		key, v := SingleLine(k, maxNameLen), sanitize(m[k])
		switch {
		case key == "" || len(v) == 0:
		case key != Note && key != event.Warnings && kept == maxProps:
			left++
		default:
			if out[key] = v; key != Note && key != event.Warnings {
				kept++
			}
		}
	}
	for k, v := range out {
		size += len(k) + len(v)
	}
	if size > maxPropsLen {
		// The largest are reduced first: usually there is only one.
		bySize := slices.SortedFunc(maps.Keys(out), func(a, b string) int {
			return cmp.Or(cmp.Compare(len(out[b]), len(out[a])), cmp.Compare(a, b))
		})
		cut := 0
		for _, k := range bySize {
			if size <= maxPropsLen {
				break
			}
			size -= len(out[k])
			if v := privacy.Truncate(out[k], cutPropLen); len(v) < len(out[k]) && len(v) <= 2*cutPropLen {
				out[k] = v
				size += len(v)
				cut++
				continue
			}
			size -= len(k)
			delete(out, k)
			left++
		}
		if cut > 0 {
			notes = append(notes, fmt.Sprintf("%d %s shortened", cut, what))
		}
	}
	return out, noteLeft(notes, left, what)
}

// setNote replaces the map, which the event may share with its source.
func setNote(e *event.Event, note string) {
	e.Properties = maps.Clone(e.Properties)
	if err := e.SetProperty(Note, note); err != nil {
		return // marshalling a string cannot fail
	}
}

// Withhold removes everything from an event that may contain free text of a
// caller or a provider, for an event whose privacy processing failed. Counts,
// costs, ids and status are kept.
func Withhold(e *event.Event) {
	e.DropContent()
	e.Private = true
	e.ErrorMessage, e.ParseError, e.TraceName, e.SpanName, e.BaseURL, e.RequestURL = "", "", "", "", "", ""
	e.ModelParameters, e.ProviderMetadata, e.Properties, e.Tags, e.Flags, e.Groups = nil, nil, nil, nil, nil, nil
	setNote(e, "content and properties left out: they could not be made private")
}

// normaliseOutcome sets the status of an LLM event. Values from the caller take
// precedence.
func normaliseOutcome(e *event.Event) {
	switch {
	case !e.IsLLM() && !e.IsReportedCall():
	case e.Name == event.Metric, e.Name == event.Feedback:
		e.IsError = e.IsError || e.HTTPStatus >= 400
	default:
		e.SettleOutcome()
	}
}

// SingleLine returns s as one line of valid UTF-8 of at most n characters, trimmed.
func SingleLine(s string, n int) string {
	if plain(s) && len(s) <= n {
		return s
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == 0:
			return '\uFFFD' // as PostHog does
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029':
			return ' '
		}
		return r
	}, s)
	return strings.TrimSpace(event.FirstChars(strings.TrimSpace(s), n))
}

// plain reports whether s is printable ASCII without space at its ends, as
// almost all fields are.
func plain(s string) bool {
	if s == "" {
		return true
	}
	if s[0] == ' ' || s[len(s)-1] == ' ' {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// text returns s as valid UTF-8 without NUL, of at most n characters, trimmed.
func text(s string, n int) string {
	if plain(s) && len(s) <= n {
		return s
	}
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	return strings.TrimSpace(event.FirstChars(strings.TrimSpace(s), n))
}

// validateRaw makes the raw values of an event valid JSON, once.
func validateRaw(e *event.Event) {
	if e.RawValid() {
		return
	}
	for _, part := range e.Content.Parts() {
		*part = validJSON(*part)
	}
	for _, m := range [...]*map[string]json.RawMessage{&e.ModelParameters, &e.ProviderMetadata, &e.Properties} {
		var repaired map[string]json.RawMessage // the event may share *m with its source
		for k, v := range *m {
			if valid := validJSON(v); !bytes.Equal(valid, v) {
				if repaired == nil {
					repaired = maps.Clone(*m)
				}
				repaired[k] = valid
			}
		}
		if repaired != nil {
			*m = repaired
		}
	}
	e.MarkRawValid()
}

// validJSON returns v if it can be kept, nil if it is empty, and otherwise its
// text as a JSON string.
func validJSON(v json.RawMessage) json.RawMessage {
	if len(v) == 0 {
		return nil
	}
	if isValid(v) {
		return v
	}
	if !utf8.Valid(v) {
		v = bytes.ToValidUTF8(v, []byte("\uFFFD"))
		if isValid(v) {
			return v
		}
	}
	s, err := json.Marshal(string(v))
	if err != nil {
		return nil // marshalling a string cannot fail
	}
	return s
}

func isValid(v []byte) bool {
	return utf8.Valid(v) && !event.NestedDeeper(v, maxDepth) && gjson.ValidBytes(v)
}
