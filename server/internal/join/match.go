package join

import (
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// What two captures of one call must agree in. A completion id alone is not enough:
// Ollama's are chatcmpl-0 to chatcmpl-998, so that unrelated calls often have the same.

// facts are compared with those of other captures.
type facts struct {
	source, provider, base string
	by                     string // the instrumentation within the source: library, framework, scope
	asked, model           string
	user, trace            string
	span, parent           string
	id                     string // the provider's id of the answer
	input, output          event.Int
	at, from, to           time.Time
	weakID                 bool // an id so short that other calls have it, too
}

// clockSlack is by how much the clocks of two captures may differ, and how long
// after a call's end a client may date it.
const clockSlack = time.Minute

// shortID is up to how many letters and digits an id is taken for a small number
// rather than a random one.
const shortID = 12

func factsOf(e *event.Event) facts {
	took := e.Latency.Or(0)
	return facts{
		source: e.Source, provider: e.Provider, base: e.BaseURL, asked: e.ModelAsked, model: e.Model, input: e.Usage.Input, output: e.Usage.Output,
		by:   rawjson.Scalar(e.Properties["otel.scope.name"]) + " " + rawjson.Scalar(e.Properties["$lib"]) + " " + rawjson.Scalar(e.Properties["$ai_lib"]) + " " + rawjson.Scalar(e.Properties["$ai_framework"]),
		user: userOf(e), trace: e.TraceID, span: e.SpanID, parent: e.ParentID, id: e.CompletionID,
		at: e.Timestamp, from: e.Timestamp.Add(-took - clockSlack), to: e.Timestamp.Add(took + clockSlack),
		weakID: weakID(e.CompletionID),
	}
}

// weakID reports whether an id has few letters and digits behind the word that it
// begins with, such as chatcmpl- or msg_. Separators within do not make it weak:
// Groq's are chatcmpl- and a UUID, Gemini's have - and _ anywhere.
func weakID(id string) bool {
	if i := strings.IndexAny(id, "-_"); i > 0 && strings.IndexFunc(id[:i], func(r rune) bool { return r < 'A' || r > 'z' }) < 0 {
		id = id[i:]
	}
	n := 0
	for _, r := range id {
		if r != '-' && r != '_' {
			n++
		}
	}
	return 0 < n && n <= shortID
}

// idForm is what an id begins with, such as chatcmpl or msg: a provider's ids are of one
// form.
func idForm(id string) string {
	if i := strings.IndexAny(id, "-_"); i > 0 {
		return id[:i]
	}
	return ""
}

// kept returns the facts with texts of their own: an event's may lie in the message
// that it came in.
func (f facts) kept() facts {
	for _, s := range [...]*string{&f.source, &f.provider, &f.base, &f.by, &f.asked, &f.model, &f.user, &f.trace, &f.span, &f.parent, &f.id} {
		*s = strings.Clone(*s)
	}
	return f
}

// same reports whether two captures can be of one call: the provider or the base
// URL and the model agree, and the token counts or the time. With an id that
// others have too, all of it has to.
//
// The gateway captures a call once. Within another source only an id of its own joins, and only what two instrumentations
// reported: providers that are simulated answer with the same id always, and one
// instrumentation reports a call once.
//
// If one has no id, or one of its own making such as LiteLLM's for Anthropic's answers,
// and does not name the gateway, model, both counts, and the time of the call must
// agree, and user or trace, unless the gateway's caller named no user. One of the two has to
// be the gateway's: two wrappers report the same counts for two calls with one prompt.
func (j *Joiner) same(f, o facts) bool {
	if f.source == o.source && (f.source == event.SourceGateway || f.id == "" || f.id != o.id || f.weakID || f.by == o.by) {
		return false
	}
	if f.id != "" && o.id != "" && f.id != o.id && idForm(f.id) == idForm(o.id) {
		return false
	}
	if !j.sameProvider(f, o) || !f.sameModel(o) {
		return false
	}
	if (f.id == "" || f.id != o.id) && !(j.ofGateway(f) && j.ofGateway(o)) {
		return (f.source == event.SourceGateway) != (o.source == event.SourceGateway) && f.input.Known && f.input == o.input && f.output.Known && f.output == o.output && f.asked+f.model != "" && o.asked+o.model != "" &&
			(f.user != "" && f.user == o.user || f.trace != "" && f.trace == o.trace || f.unattributed() || o.unattributed()) && f.meets(o)
	}
	counted := f.input.Known && o.input.Known || f.output.Known && o.output.Known
	counts := (!f.input.Known || !o.input.Known || f.input == o.input) && (!f.output.Known || !o.output.Known || f.output == o.output)
	if f.weakID && o.weakID {
		return f.asked+f.model != "" && o.asked+o.model != "" && counts && f.overlaps(o)
	}
	return counted && counts || f.overlaps(o)
}

// unattributed reports whether the gateway's caller named no user.
func (f facts) unattributed() bool { return f.source == event.SourceGateway && f.user == "" }

// meets reports whether the calls themselves overlap in time, to within a second.
func (f facts) meets(o facts) bool {
	const less = clockSlack - time.Second
	return !f.from.Add(less).After(o.to.Add(-less)) && !o.from.Add(less).After(f.to.Add(-less))
}

// within reports whether o is the step that f is part of.
func (f facts) within(o facts) bool {
	return f.parent != "" && f.parent == o.span && f.trace == o.trace
}

func (f facts) overlaps(o facts) bool { return !f.from.After(o.to) && !o.from.After(f.to) }

// sameProvider compares the providers of two captures; an unknown one matches any.
// OpenAI-compatible clients report every server as openai, so without a base URL the
// name is no evidence.
func (j *Joiner) sameProvider(f, o facts) bool {
	if f.provider == "" && f.base == "" || o.provider == "" && o.base == "" {
		return true
	}
	if j.ofGateway(f) && j.ofGateway(o) {
		return true // one is the gateway's, the other names the gateway as its base URL
	}
	hosts, providers := [2]string{hostOf(f.base), hostOf(o.base)}, [2]string{family(f.provider), family(o.provider)}
	if hosts[0] != "" && hosts[0] == hosts[1] || providers[0] != "" && providers[0] == providers[1] {
		return true
	}
	for i, c := range [2]facts{f, o} {
		if c.source != event.SourceGateway && hosts[i] == "" && (providers[i] == "" || providers[i] == "openai") {
			return true
		}
	}
	return false
}

func (j *Joiner) ofGateway(f facts) bool {
	return f.source == event.SourceGateway || f.base != "" && j.c.Gateway != nil && j.c.Gateway(f.base)
}

// sameModel compares requested and response models, without dates; a capture
// without either matches any.
func (f facts) sameModel(o facts) bool {
	if f.asked+f.model == "" || o.asked+o.model == "" {
		return true
	}
	for _, a := range [2]string{f.asked, f.model} {
		for _, b := range [2]string{o.asked, o.model} {
			if a != "" && b != "" && (a == b || bareModel(a) == bareModel(b)) {
				return true
			}
		}
	}
	return false
}

// family is a provider's name without the part for its API: openai.responses of
// the AI SDK is openai, vertex_ai and google are gemini.
func family(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	switch {
	case strings.Contains(s, "azure"), strings.HasPrefix(s, "az."):
		return "azure"
	case strings.Contains(s, "bedrock"), strings.HasPrefix(s, "amazon"), strings.HasPrefix(s, "aws"):
		return "bedrock"
	case strings.Contains(s, "gemini"), strings.Contains(s, "google"), strings.Contains(s, "vertex"), strings.HasPrefix(s, "gcp"):
		return "gemini"
	case strings.HasPrefix(s, "mistral"):
		return "mistral"
	case s == "x_ai", s == "x-ai", strings.HasPrefix(s, "xai"):
		return "xai"
	}
	if i := strings.IndexAny(s, "./"); i > 0 {
		s = s[:i]
	}
	return s
}

// hostOf is a base URL's host and port, in one form for this machine's own.
func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return ""
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		host = "localhost"
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(host, port)
}

// dated are the ends of model names that say which build of a model it is:
// 2025-04-14, 20250929, 0613, latest, preview, Bedrock's v1:0.
var dated = regexp.MustCompile(`[-@:](\d{4}-\d{2}-\d{2}|\d{8}|\d{6}|\d{4}|latest|preview|v\d+:\d+|\d{3})$`)

// bedrockPrefix is the region and the vendor before a model's name at Bedrock.
var bedrockPrefix = regexp.MustCompile(`^((us|eu|apac|jp|au|ca|global)\.)?(anthropic|amazon|meta|mistral|cohere|deepseek|openai|ai21|qwen)\.`)

// bareModel is a model's name without vendor, date and build.
func bareModel(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	s = s[strings.LastIndexByte(s, '/')+1:]
	s = bedrockPrefix.ReplaceAllString(s, "")
	for range 3 {
		cut := dated.ReplaceAllString(s, "")
		if cut == s || cut == "" {
			break
		}
		s = cut
	}
	return s
}
