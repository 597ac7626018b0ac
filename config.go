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

// Defaults for the zero values of [Config].
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

	// DefaultDistinctID is the distinct id of events without a user that are
	// sent straight to PostHog.
	DefaultDistinctID = "anonymous"

	// Defaults of FlushAt and FlushInterval with Serverless.
	ServerlessFlushAt       = 10
	ServerlessFlushInterval = 2 * time.Second
)

// Config configures a [Client]. Only APIKey is required, and it may come from the
// environment. A field that is set takes precedence over its environment variable.
type Config struct {
	// APIKey is the project key (phc_…) of a PostHog project, or the project
	// token (phc_hedgerow_…) that "hedgerow serve" prints at its first start.
	// Defaults to $HEDGEROW_API_KEY, else $POSTHOG_API_KEY.
	APIKey string

	// Host is the base URL of PostHog's ingestion host or of a hedgerow server:
	// https://us.i.posthog.com, https://eu.i.posthog.com, http://127.0.0.1:4100.
	// Defaults to $HEDGEROW_HOST, else $POSTHOG_HOST, else [DefaultHost]. With a
	// hedgerow project token there is no default: [New] returns an error if the host
	// is missing, so that events are never sent to PostHog's cloud by mistake.
	//
	// PostHog hosts must use https, or http on the same machine (localhost,
	// 127.0.0.0/8, ::1); $HEDGEROW_ALLOW_INSECURE_POSTHOG=1 lifts that for tests.
	// Hedgerow hosts may use http.
	Host string

	// Disabled makes [New] return a client that does nothing and needs no key.
	// Defaults to $HEDGEROW_DISABLED.
	Disabled bool

	// FlushAt is the number of queued events at which a delivery starts. Defaults to
	// $HEDGEROW_FLUSH_AT, else 20, or 10 with Serverless. A request holds at most 100
	// events, or FlushAt if that is more.
	FlushAt int

	// FlushInterval is the longest time an event waits before it is delivered.
	// Defaults to $HEDGEROW_FLUSH_INTERVAL, else 10 s, or 2 s with Serverless.
	FlushInterval time.Duration

	// Serverless lowers the defaults of FlushAt and FlushInterval, for processes that
	// may be frozen at any time. Call [Client.Flush] before a handler returns.
	// Defaults to $HEDGEROW_SERVERLESS.
	Serverless bool

	// DefaultDistinctID is the distinct id of events without a user, that is without
	// [WithUser] and without a user in the call's body. Defaults to
	// $HEDGEROW_DISTINCT_ID, else "anonymous" ([DefaultDistinctID]) straight to
	// PostHog, where such events are sent with $process_person_profile: false and
	// create no person profile. There is no default for a hedgerow server, which
	// stores such events without a user.
	DefaultDistinctID string

	// Environment (production, staging) is set on events that have none. Defaults to
	// $HEDGEROW_ENVIRONMENT.
	Environment string

	// SendContent sends prompts, responses, error messages and all custom properties
	// when the host is PostHog. Without it only the allowed fields of docs/privacy.md
	// are sent, as from a hedgerow server: counts, costs, times, lengths, categories,
	// hashes, ids, names and short custom properties. It has no effect when the host
	// is a hedgerow server, which receives the content and decides what is sent to
	// PostHog. Defaults to $HEDGEROW_SEND_CONTENT, else false.
	SendContent bool

	// Surface (Conversation, Playbook: the part of the product that makes the call) is
	// set on events that have none from [WithSurface] or a property. Defaults to
	// $HEDGEROW_SURFACE.
	Surface string

	// PrivacyMode withholds prompts, responses and anything that may quote them, for
	// every host, and takes precedence over SendContent: $ai_input and
	// $ai_output_choices are sent as null, error messages as one of a fixed list of
	// sentences. Lengths, categories, hashes and token counts are still sent.
	// [WithPrivacy] does the same for one call. Defaults to $HEDGEROW_PRIVACY_MODE.
	// Keys and other secrets are removed in any case.
	PrivacyMode bool

	// SendProperties and SendAttributes name custom properties and span attributes
	// that are always sent to PostHog, although SendContent is off. Other properties
	// with more than 200 characters or several lines, lists, objects and unknown
	// attributes are not sent; each name is logged once. A hedgerow server receives
	// all of them.
	SendProperties, SendAttributes []string

	// Schema selects the events sent to PostHog for a call: [SchemaPostHog],
	// [SchemaLLMEvents] or [SchemaBoth]; docs/events.md lists them. Defaults to
	// $HEDGEROW_SCHEMA, else SchemaPostHog. A hedgerow server ignores it: its
	// connections have their own schemas.
	Schema Schema

	// UIBaseURL is the address of the pages that show traces, usually a hedgerow
	// server. Events of a trace sent straight to PostHog get the property trace_url,
	// UIBaseURL + "/traces/" + trace id; a hedgerow server sets its own. Defaults to
	// $HEDGEROW_UI_URL, else there is no trace_url.
	UIBaseURL string

	// ScrubEmails also replaces e-mail addresses in content and properties.
	ScrubEmails bool

	// BeforeSend receives every event just before it is encoded, after pricing,
	// privacy and Schema, and returns the event to send, or nil to drop it. It runs in
	// the background, never concurrently for LLM events or for product events. If it
	// panics, the event is dropped.
	BeforeSend func(*event.Event) *event.Event

	// Logger receives the client's log, never content or keys:
	//
	//   - debug: each event that is queued or dropped, each flush, each delivery with
	//     its events, bytes and response, each retry
	//   - info: events that an earlier process left, a property that is withheld, a
	//     host without a route for LLM events
	//   - warn: events that were dropped, a spool that is full
	//   - error: a host that rejects the key or the events: nothing arrives
	//
	// Defaults to [slog.Default].
	Logger *slog.Logger

	// LogLevel is the minimum level logged; it overrides the level of Logger's
	// handler. Defaults to $HEDGEROW_LOG_LEVEL (debug, info, warn, error), else the
	// level of Logger's handler.
	LogLevel slog.Leveler

	// QueueSize is the maximum number of events that are queued or being sent. Further
	// events are dropped and counted, see [Client.Stats]. Defaults to
	// $HEDGEROW_QUEUE_SIZE, else 10,000.
	QueueSize int

	// QueueBytes is the maximum memory of queued events in bytes, by the size of
	// bodies and content. Defaults to 64 MiB.
	QueueBytes int64

	// SpoolDir is a folder where events are kept until they have been delivered. They
	// survive a killed process; the next client that opens the folder delivers them.
	// An event is on disk about a millisecond after its capture, or 100 ms after a
	// burst of a few thousand; [Stats.Spooled] has the number. An event may be sent
	// twice, with the same uuid, which PostHog and hedgerow deduplicate. A power
	// failure may lose what the operating system has not written yet. A failed attempt
	// of a wrapped call that may still be retried is not spooled.
	//
	// The folder is created if it is missing. It belongs to one client: [New] returns
	// an error for a second one, in this process or another. Content is stored as it
	// is sent, in files that only this user can read. Defaults to $HEDGEROW_SPOOL_DIR,
	// else there is no spool.
	SpoolDir string

	// SpoolBytes is the maximum size of the spool in bytes. Events beyond it are kept
	// in memory only, with a warning in the log. Defaults to 256 MiB.
	SpoolBytes int64

	// DisableGzip sends bodies uncompressed.
	DisableGzip bool

	// MaxRetries is how often a delivery is retried after a transient failure (no
	// response, 408, 429, 5xx). Defaults to 10, spread over two minutes; with a spool,
	// unlimited until [Client.Close]. A negative value means no retries.
	MaxRetries int

	// HTTPClient sends deliveries. Redirects are not followed, and Timeout applies to
	// each request. Defaults to a client with its own transport.
	HTTPClient *http.Client

	// Timeout is the time limit of one delivery request. Defaults to 10 s.
	Timeout time.Duration

	// ShutdownTimeout limits [Client.Close] and [Client.Flush] if their context has no
	// deadline. Defaults to $HEDGEROW_SHUTDOWN_TIMEOUT, else 10 s. A negative value
	// means no limit.
	ShutdownTimeout time.Duration

	// Providers maps further provider hosts to names: "llm.internal:8080" → "vllm".
	// It is treated as OpenAI-compatible unless the path shows another API.
	// Well-known providers need no entry.
	Providers map[string]string

	// AttributionFields names members of a call's request body that the wrappers
	// record as custom properties and remove from what the provider receives, because
	// it would reject them: feature, customer. session, session_id (the conversation),
	// trace (as in OpenRouter's API) and user are always recorded, and removed if they
	// are not part of the provider's API. [New] returns an error for a name that is a
	// field of a provider's API. Defaults to $HEDGEROW_ATTRIBUTION_FIELDS, a
	// comma-separated list.
	AttributionFields []string

	// SpanContext returns the trace and span of another tracer that a call belongs to,
	// as hex ids or "": package otelexport has one for OpenTelemetry. [WithTrace]
	// takes precedence. Without it the traceparent header of the request is used.
	SpanContext func(context.Context) (traceID, spanID string)

	// LeaveUsage stops the wrappers from requesting usage
	// (stream_options.include_usage) for chat completion streams. Without it they
	// request it and remove the extra chunk from the response: the caller sees the
	// stream it requested.
	LeaveUsage bool
}

// Schema is [event.Schema]: which events are sent to PostHog for a call.
type Schema = event.Schema

// The values of [Config.Schema].
const (
	SchemaPostHog   = event.SchemaPostHog
	SchemaLLMEvents = event.SchemaLLMEvents
	SchemaBoth      = event.SchemaBoth
)

// withDefaults applies the environment and the defaults, and validates.
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
		return c, event.Invalid(fmt.Sprintf("unknown schema %.40q", c.Schema), "set Config.Schema or HEDGEROW_SCHEMA to posthog, llm_events or both")
	}
	if err := checkKey(c.APIKey); err != nil {
		return c, err
	}
	if c.home() && c.Host == "" {
		return c, event.Invalid("the API key is a project token of hedgerow, and no host is set", "set Config.Host or HEDGEROW_HOST to the address of your hedgerow server, as in http://127.0.0.1:4100")
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

// home reports whether the receiver is a hedgerow server. Its project tokens
// have a prefix that PostHog does not accept.
func (c *Config) home() bool { return strings.HasPrefix(c.APIKey, homePrefix) }

func checkKey(key string) error {
	const hint = "it begins with phc_ (PostHog: Settings, Project; hedgerow prints its own at the first start)"
	switch {
	case key == "":
		return event.Invalid("the API key is missing", "set Config.APIKey, HEDGEROW_API_KEY or POSTHOG_API_KEY, or Config.Disabled to capture nothing")
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
			return event.Invalid("the API key has a character that is not allowed in a project key", hint)
		}
	}
	return nil
}

// checkHost returns the base URL without a trailing slash. Addresses of PostHog's
// web app are replaced by those of its ingestion. home marks a hedgerow server.
func checkHost(host string, home bool) (string, error) {
	const hint = "give scheme and host, as in https://eu.i.posthog.com or http://127.0.0.1:4100"
	u, err := url.Parse(host)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return "", event.Invalid("the host is not an http or https URL", hint)
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return "", event.Invalid("the host has a user, a query or a fragment", hint)
	}
	if !home && u.Scheme == "http" && !loopback(u.Hostname()) && os.Getenv("HEDGEROW_ALLOW_INSECURE_POSTHOG") != "1" {
		return "", event.Invalid("the host uses http: the project key and the events would be sent in clear text", "use https; http is allowed on the same machine and for a hedgerow server with its project token (phc_hedgerow_…)")
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

// isPostHog reports whether a base URL belongs to PostHog's cloud.
func isPostHog(base string) bool {
	u, err := url.Parse(base)
	name := ""
	if err == nil {
		name = strings.ToLower(u.Hostname())
	}
	return name == "posthog.com" || strings.HasSuffix(name, ".posthog.com")
}

// checkUI returns the base URL of the pages without a trailing slash.
func checkUI(base string) (string, error) {
	if base == "" {
		return "", nil
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", event.Invalid("UIBaseURL is not an http or https URL", "set Config.UIBaseURL or HEDGEROW_UI_URL to the address of your traces without query, as in https://hedgerow.example.com")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// logger returns the configured logger.
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

// environment fills unset fields from variables. err is the first error.
type environment struct{ err error }

func (e *environment) get(name string, set bool) (string, bool) {
	v := strings.TrimSpace(os.Getenv(name))
	return v, v != "" && !set && e.err == nil
}

func (e *environment) fail(name, hint string) {
	e.err = event.Invalid("the environment variable "+name+" is invalid", hint)
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
			e.fail(name, "use a number of at least 1")
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
