package hedgerow

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// What a [Config] means by its zero values.
const (
	DefaultHost          = "https://us.i.posthog.com"
	DefaultFlushAt       = 20
	DefaultFlushInterval = 10 * time.Second
	DefaultQueueSize     = 10_000
	DefaultQueueBytes    = 64 << 20
	DefaultMaxRetries    = 10
	DefaultSpoolBytes    = 256 << 20
	DefaultTimeout       = 10 * time.Second
	DefaultShutdown      = 10 * time.Second

	// DefaultDistinctID is the user id of events that name nobody, straight to PostHog.
	DefaultDistinctID = "anonymous"

	// The defaults of FlushAt and FlushInterval where Serverless is set.
	ServerlessFlushAt       = 10
	ServerlessFlushInterval = 2 * time.Second
)

// Config says where events go and how. Only APIKey is needed, and it may come
// from the environment. A field that is set wins over its variable.
type Config struct {
	// APIKey is the project key (phc_…) of a PostHog project, or the project
	// token (phc_hedgerow_…) that "hedgerow serve" prints at its first start.
	// Defaults to $HEDGEROW_API_KEY, else $POSTHOG_API_KEY.
	APIKey string

	// Host is the base URL of PostHog's ingestion or of a hedgerow server:
	// https://us.i.posthog.com, https://eu.i.posthog.com, http://127.0.0.1:4100.
	// Defaults to $HEDGEROW_HOST, else $POSTHOG_HOST, else [DefaultHost]. A
	// project token of hedgerow has no default: [New] returns an error where its
	// host is not named, so that its events do not go to PostHog's cloud.
	//
	// To PostHog it is https, or http to the same machine (localhost, 127.0.0.0/8,
	// ::1); $HEDGEROW_ALLOW_INSECURE_POSTHOG=1 lifts that for tests. To hedgerow it
	// may be http.
	Host string

	// Disabled makes [New] return a client that does nothing and needs no key.
	// Defaults to $HEDGEROW_DISABLED.
	Disabled bool

	// FlushAt is how many events of one lane begin a delivery. Defaults to
	// $HEDGEROW_FLUSH_AT, else 20, or 10 where Serverless is set. A request
	// bears at most 100 events, or FlushAt if that is more.
	FlushAt int

	// FlushInterval is the longest that an event waits for others before it is
	// delivered. Defaults to $HEDGEROW_FLUSH_INTERVAL, else 10 s, or 2 s where
	// Serverless is set.
	FlushInterval time.Duration

	// Serverless makes batches smaller and waits shorter, for processes that
	// may be frozen at any time. Call [Client.Flush] before a handler returns.
	// Defaults to $HEDGEROW_SERVERLESS.
	Serverless bool

	// DefaultDistinctID is the user id of events for which nobody names a user, by
	// [WithUser] or in the body of the call. Defaults to $HEDGEROW_DISTINCT_ID, else
	// "anonymous" ([DefaultDistinctID]) straight to PostHog, where such events are
	// sent with $process_person_profile: false and make no person. To hedgerow there
	// is no default: it keeps them without a user.
	DefaultDistinctID string

	// Environment (production, staging) is put on every event that says none.
	// Defaults to $HEDGEROW_ENVIRONMENT.
	Environment string

	// SendContent lets prompts, answers, error messages and every custom property
	// leave for PostHog where the host is PostHog. Without it they stay in this
	// process, and of everything else only what is on the list of docs/privacy.md
	// leaves, as from a hedgerow server: counts, costs, times, lengths, categories,
	// hashes, ids, names and short custom properties. It changes nothing where the
	// host is a hedgerow server, which gets the content and decides itself what
	// leaves. Defaults to $HEDGEROW_SEND_CONTENT, else false.
	SendContent bool

	// Surface (Conversation, Playbook: the part of the product that calls) is put
	// on every event that says none, by [WithSurface] or a property. Defaults to
	// $HEDGEROW_SURFACE.
	Surface string

	// PrivacyMode keeps prompts, answers and whatever may echo them in this
	// process, wherever events go, and wins over SendContent: $ai_input and
	// $ai_output_choices are sent as null, errors as one of a fixed list of
	// sentences. Lengths, categories, hashes and token counts still leave.
	// [WithPrivacy] does the same for one call. Defaults to
	// $HEDGEROW_PRIVACY_MODE. Keys and other secrets are removed in any case.
	PrivacyMode bool

	// SendProperties and SendAttributes name custom properties, and attributes of
	// spans, that leave for PostHog whatever they hold, although SendContent is off.
	// Without them texts of more than 200 characters or one line, lists, objects and
	// unknown attributes stay here; the log names each once. To hedgerow all of them
	// are sent.
	SendProperties, SendAttributes []string

	// Schema says in which events calls are sent to PostHog: [SchemaPostHog],
	// [SchemaLLMEvents] or [SchemaBoth]; docs/events.md lists them. Defaults to
	// $HEDGEROW_SCHEMA, else SchemaPostHog. A hedgerow server ignores it: its
	// connections have schemas of their own.
	Schema Schema

	// UIBaseURL is the address at which people open traces, such as that of a
	// hedgerow server's pages. Events of a trace get the property trace_url,
	// UIBaseURL + "/traces/" + trace id, straight to PostHog; a hedgerow server sets
	// its own. Defaults to $HEDGEROW_UI_URL, else there is no trace_url.
	UIBaseURL string

	// ScrubEmails replaces e-mail addresses in content and properties too.
	ScrubEmails bool

	// BeforeSend sees every event just before it is encoded, cost, privacy and Schema
	// applied, and returns the event to send, or nil to drop it. It runs in the
	// background, one event of a lane at a time; one that panics drops its event.
	BeforeSend func(*event.Event) *event.Event

	// Logger gets the client's log, never any content or key:
	//
	//   - debug: each event that is queued or dropped, each flush, each delivery with
	//     its events, bytes and answer, each retry
	//   - info: events that an earlier process left, a property that stays here, a
	//     host without a route for LLM events
	//   - warn: events that were dropped, a spool that is full
	//   - error: a host that refuses the key or the address: nothing arrives
	//
	// Defaults to [slog.Default].
	Logger *slog.Logger

	// LogLevel is the least level that is logged, also where Logger's own handler
	// has a higher one. Defaults to $HEDGEROW_LOG_LEVEL (debug, info, warn, error),
	// else the level of Logger's handler.
	LogLevel slog.Leveler

	// QueueSize bounds how many events wait, those under way included. What does
	// not fit is dropped and counted, see [Client.Stats]. Defaults to
	// $HEDGEROW_QUEUE_SIZE, else 10,000.
	QueueSize int

	// QueueBytes bounds the memory of what waits, by the size of bodies and
	// content. Defaults to 64 MiB.
	QueueBytes int64

	// SpoolDir is a folder in which events are kept from a moment after their
	// capture until they have arrived. A process that is killed then loses only
	// what it had no time to write, which [Stats.Spooled] tells: an event is on
	// disk about a millisecond after its capture, and 100 ms after a burst of a
	// few thousand. The next client on the same folder delivers what is there,
	// some of it perhaps a second time, as the same events, which PostHog and
	// hedgerow take for one. A machine whose power fails may lose what the
	// system had not written yet, and a failed try of a wrapped call that waits
	// for the next is not an event yet. The folder is
	// made where it is missing. It belongs to one client: for a second one, in
	// this process or another, [New] returns an error. Content lies in it as it
	// is sent, in files that only this user can read. Defaults to
	// $HEDGEROW_SPOOL_DIR, else there is no spool.
	SpoolDir string

	// SpoolBytes bounds what the spool takes on disk. Events that do not fit are
	// in memory only, and the log says so. Defaults to 256 MiB.
	SpoolBytes int64

	// DisableGzip sends bodies uncompressed.
	DisableGzip bool

	// MaxRetries is how often a delivery is tried again where the host is in
	// trouble (no answer, 408, 429, 5xx). Defaults to 10, spread over two
	// minutes; with a spool, to no end before [Client.Close]. Negative is none.
	MaxRetries int

	// HTTPClient sends deliveries. Redirects are not followed, and each request
	// has the deadline Timeout. Defaults to a client of its own transport.
	HTTPClient *http.Client

	// Timeout bounds one request of a delivery. Defaults to 10 s.
	Timeout time.Duration

	// ShutdownTimeout bounds [Client.Close] and [Client.Flush] where their context
	// has no deadline of its own. Defaults to $HEDGEROW_SHUTDOWN_TIMEOUT, else
	// 10 s. Negative is no bound.
	ShutdownTimeout time.Duration

	// Providers names the hosts of providers that the wrappers do not know:
	// "llm.internal:8080" → "vllm". Such a provider is read as OpenAI-compatible
	// unless the path says otherwise. The well-known ones need no entry.
	Providers map[string]string

	// AttributionFields names members of a call's request body that the wrappers read
	// as custom properties and take out of what the provider gets, because it would
	// refuse them: feature, customer. The members session and session_id (the
	// conversation), trace (as OpenRouter has it) and user are read without being
	// named, and taken out where the provider's API does not have them. A name that
	// is a field of a provider's API is an error of [New]. Defaults to
	// $HEDGEROW_ATTRIBUTION_FIELDS, names parted by commas.
	AttributionFields []string

	// SpanContext tells the wrappers which trace and span of another tracer a
	// call belongs to, as hex ids or "": package otelexport has one for
	// OpenTelemetry. [WithTrace] wins over it. Without it the traceparent header
	// of the request is used.
	SpanContext func(context.Context) (traceID, spanID string)

	// LeaveUsage keeps the wrappers from asking for token counts on streams of
	// chat completions that lack them. What they ask for they take out of the
	// answer again: the caller sees the stream that it asked for.
	LeaveUsage bool
}

// Schema is [event.Schema]: the events in which calls are sent to PostHog.
type Schema = event.Schema

// The schemas of [Config.Schema].
const (
	SchemaPostHog   = event.SchemaPostHog
	SchemaLLMEvents = event.SchemaLLMEvents
	SchemaBoth      = event.SchemaBoth
)

// withDefaults fills in the environment and the defaults, and says what is wrong.
func (c Config) withDefaults() (Config, error) {
	var env environment
	env.bool("HEDGEROW_DISABLED", &c.Disabled)
	if c.Disabled {
		return c, nil
	}
	c.APIKey = strings.TrimSpace(firstOf(c.APIKey, os.Getenv("HEDGEROW_API_KEY"), os.Getenv("POSTHOG_API_KEY")))
	c.Host = strings.TrimSpace(firstOf(c.Host, os.Getenv("HEDGEROW_HOST"), os.Getenv("POSTHOG_HOST")))
	c.DefaultDistinctID = firstOf(c.DefaultDistinctID, os.Getenv("HEDGEROW_DISTINCT_ID"))
	c.Environment = firstOf(c.Environment, os.Getenv("HEDGEROW_ENVIRONMENT"))
	c.Schema = Schema(firstOf(string(c.Schema), os.Getenv("HEDGEROW_SCHEMA"), string(SchemaPostHog)))
	c.UIBaseURL = strings.TrimSpace(firstOf(c.UIBaseURL, os.Getenv("HEDGEROW_UI_URL")))
	c.Surface = firstOf(c.Surface, os.Getenv("HEDGEROW_SURFACE"))
	c.SpoolDir = firstOf(c.SpoolDir, os.Getenv("HEDGEROW_SPOOL_DIR"))
	env.bool("HEDGEROW_SERVERLESS", &c.Serverless)
	env.bool("HEDGEROW_SEND_CONTENT", &c.SendContent)
	env.bool("HEDGEROW_PRIVACY_MODE", &c.PrivacyMode)
	env.int("HEDGEROW_FLUSH_AT", &c.FlushAt)
	env.int("HEDGEROW_QUEUE_SIZE", &c.QueueSize)
	env.duration("HEDGEROW_FLUSH_INTERVAL", &c.FlushInterval)
	env.duration("HEDGEROW_SHUTDOWN_TIMEOUT", &c.ShutdownTimeout)
	env.level("HEDGEROW_LOG_LEVEL", &c.LogLevel)
	if env.err != nil {
		return c, env.err
	}
	if c.AttributionFields == nil {
		c.AttributionFields = strings.Split(os.Getenv("HEDGEROW_ATTRIBUTION_FIELDS"), ",")
	}
	var err error
	if c.AttributionFields, err = provider.AttributionFields(c.AttributionFields); err != nil {
		return c, err
	}
	flushAt, interval := DefaultFlushAt, DefaultFlushInterval
	if c.Serverless {
		flushAt, interval = ServerlessFlushAt, ServerlessFlushInterval
	}
	for _, n := range []struct {
		name string
		v    int64
	}{{"FlushAt", int64(c.FlushAt)}, {"FlushInterval", int64(c.FlushInterval)}, {"QueueSize", int64(c.QueueSize)}, {"QueueBytes", c.QueueBytes}, {"SpoolBytes", c.SpoolBytes}, {"Timeout", int64(c.Timeout)}} {
		if n.v < 0 {
			return c, event.Invalid(n.name+" is negative", "leave it at 0 for the default")
		}
	}
	setDefault(&c.FlushAt, flushAt)
	setDefault(&c.FlushInterval, interval)
	setDefault(&c.QueueSize, DefaultQueueSize)
	setDefault(&c.QueueBytes, DefaultQueueBytes)
	setDefault(&c.SpoolBytes, DefaultSpoolBytes)
	if c.SpoolDir == "" {
		setDefault(&c.MaxRetries, DefaultMaxRetries)
	}
	setDefault(&c.Timeout, DefaultTimeout)
	setDefault(&c.ShutdownTimeout, DefaultShutdown)
	if c.FlushAt > c.QueueSize {
		return c, event.Invalid(fmt.Sprintf("FlushAt is %d, more than the %d events of QueueSize", c.FlushAt, c.QueueSize), "make FlushAt smaller or the queue larger")
	}
	if utf8.RuneCountInString(c.DefaultDistinctID) > event.MaxDistinctIDLen {
		return c, event.Invalid("DefaultDistinctID is longer than 200 characters", "use a short stable id")
	}
	if !c.Schema.Valid() {
		return c, event.Invalid(fmt.Sprintf("there is no schema %.40q", c.Schema), "set Config.Schema or HEDGEROW_SCHEMA to posthog, llm_events or both")
	}
	if err := checkKey(c.APIKey); err != nil {
		return c, err
	}
	if c.home() && c.Host == "" {
		return c, event.Invalid("the API key is a project token of hedgerow, and no host is named", "set Config.Host or HEDGEROW_HOST to the address of your hedgerow server, as in http://127.0.0.1:4100")
	}
	if c.Host, err = checkHost(firstOf(c.Host, DefaultHost), c.home()); err != nil {
		return c, err
	}
	if c.home() && isPostHog(c.Host) {
		return c, event.Invalid("the API key is a project token of hedgerow, and the host is PostHog's", "set Config.Host or HEDGEROW_HOST to the address of your hedgerow server, or use the project key of PostHog")
	}
	if c.UIBaseURL, err = checkUI(c.UIBaseURL); err != nil {
		return c, err
	}
	if !c.home() && c.DefaultDistinctID == "" {
		c.DefaultDistinctID = DefaultDistinctID
	}
	return c, nil
}

// home reports whether the receiver is a hedgerow server: its project tokens are
// told by their prefix, and no PostHog takes them.
func (c *Config) home() bool { return strings.HasPrefix(c.APIKey, homePrefix) }

func checkKey(key string) error {
	const hint = "it begins with phc_ (PostHog: Settings, Project; hedgerow prints its own at the first start)"
	switch {
	case key == "":
		return event.Invalid("there is no API key", "set Config.APIKey, HEDGEROW_API_KEY or POSTHOG_API_KEY, or Config.Disabled to capture nothing")
	case strings.HasPrefix(key, "phx_"), strings.HasPrefix(key, "phs_"):
		return event.Invalid("the API key is a personal or secret key of PostHog, not a project key", hint+"; a personal key can read and change the project: keep it out of applications")
	case strings.HasPrefix(key, "hr_"):
		return event.Invalid("the API key is a hedgerow API key, not a project token", "use the project token, which begins with phc_hedgerow_: hedgerow project list shows it")
	case strings.HasPrefix(key, "sk-"):
		return event.Invalid("the API key is a provider's key, not a project key", hint)
	case !strings.HasPrefix(key, "phc_"):
		return event.Invalid("the API key does not begin with phc_: it is not a project key", hint)
	case len(key) > 64:
		return event.Invalid("the API key is longer than 64 characters", hint)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] >= 0x7f {
			return event.Invalid("the API key has a character that no project key has", hint)
		}
	}
	return nil
}

// checkHost returns the base URL without a slash at its end. The addresses of
// PostHog's web app become those of its ingestion. home says that the receiver is
// a hedgerow server.
func checkHost(host string, home bool) (string, error) {
	const hint = "give scheme and host, as in https://eu.i.posthog.com or http://127.0.0.1:4100"
	u, err := url.Parse(host)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return "", event.Invalid("the host is not a URL of http or https", hint)
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return "", event.Invalid("the host has a user, a query or a fragment", hint)
	}
	if !home && u.Scheme == "http" && !loopback(u.Hostname()) && os.Getenv("HEDGEROW_ALLOW_INSECURE_POSTHOG") != "1" {
		return "", event.Invalid("the host is http: the project key and the events would cross the network in clear text", "use https; http is for the same machine, and for a hedgerow server with its project token (phc_hedgerow_…)")
	}
	switch strings.ToLower(u.Host) {
	case "app.posthog.com", "us.posthog.com", "posthog.com":
		u.Scheme, u.Host, u.Path = "https", "us.i.posthog.com", ""
	case "eu.posthog.com":
		u.Scheme, u.Host, u.Path = "https", "eu.i.posthog.com", ""
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func loopback(name string) bool {
	ip := net.ParseIP(name)
	return strings.EqualFold(name, "localhost") || ip != nil && ip.IsLoopback()
}

// isPostHog reports whether a base URL is of PostHog's cloud.
func isPostHog(base string) bool {
	u, err := url.Parse(base)
	name := ""
	if err == nil {
		name = strings.ToLower(u.Hostname())
	}
	return name == "posthog.com" || strings.HasSuffix(name, ".posthog.com")
}

// checkUI returns the base URL of pages without a slash at its end.
func checkUI(base string) (string, error) {
	if base == "" {
		return "", nil
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", event.Invalid("UIBaseURL is not a URL of http or https", "set Config.UIBaseURL or HEDGEROW_UI_URL to the address of your traces without query, as in https://hedgerow.example.com")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// logger is the one that the client uses.
func (c *Config) logger() *slog.Logger {
	l := c.Logger
	if l == nil {
		l = slog.Default()
	}
	if c.LogLevel != nil {
		l = slog.New(leveled{l.Handler(), c.LogLevel})
	}
	return l.With("component", "hedgerow")
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

func setDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// environment reads variables into fields that are not set. err is the first
// that could not be read.
type environment struct{ err error }

func (e *environment) get(name string, set bool) (string, bool) {
	v := strings.TrimSpace(os.Getenv(name))
	return v, v != "" && !set && e.err == nil
}

func (e *environment) fail(name, hint string) {
	e.err = event.Invalid("the environment variable "+name+" cannot be read", hint)
}

func (e *environment) bool(name string, v *bool) {
	if s, ok := e.get(name, *v); ok {
		switch strings.ToLower(s) {
		case "1", "true", "on", "yes":
			*v = true
		case "0", "false", "off", "no":
		default:
			e.fail(name, "use 1 or 0")
		}
	}
}

func (e *environment) int(name string, v *int) {
	if s, ok := e.get(name, *v != 0); ok {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			e.fail(name, "use a number from 1 on")
			return
		}
		*v = n
	}
}

// duration reads 10s or 1m30s; a bare number is milliseconds, as in PostHog's
// other SDKs.
func (e *environment) duration(name string, v *time.Duration) {
	if s, ok := e.get(name, *v != 0); ok {
		d, err := time.ParseDuration(s)
		if n, nerr := strconv.Atoi(s); nerr == nil {
			d, err = time.Duration(n)*time.Millisecond, nil
		}
		if err != nil || d <= 0 {
			e.fail(name, "use a duration such as 10s")
			return
		}
		*v = d
	}
}

func (e *environment) level(name string, v *slog.Leveler) {
	if s, ok := e.get(name, *v != nil); ok {
		var l slog.Level
		if l.UnmarshalText([]byte(s)) != nil {
			e.fail(name, "use debug, info, warn or error")
			return
		}
		*v = l
	}
}
