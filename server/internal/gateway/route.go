package gateway

import (
	"cmp"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// Upstream is a provider that calls can be forwarded to.
type Upstream struct {
	// BaseURL is the provider's URL without the path that callers send
	// (https://api.openai.com). A path that callers send too, such as the /v1
	// of https://api.openai.com/v1, is not repeated. {resource} is replaced by
	// the second part of an Azure route. Defaults to the known provider's.
	BaseURL string

	// Dialect is the wire format. Defaults to the known provider's, else
	// [provider.OpenAI].
	Dialect provider.Dialect

	// IncludeUsage requests usage for streams that do not report it. Defaults
	// to true for the OpenAI dialect, except for known providers that always
	// report it.
	IncludeUsage *bool

	// Timeout is the longest wait for response headers. Defaults to 0: no limit
	// other than the caller's.
	Timeout time.Duration

	provider string // a known provider's name in events
}

// DefaultUpstreams returns the providers that need no configuration, by the first part of
// their routes.
func DefaultUpstreams() map[string]Upstream {
	known := make(map[string]Upstream)
	for _, h := range provider.Hosts {
		if _, ok := known[h.Route()]; ok || h.Provider == "ollama" { // Ollama is usually self-hosted
			continue
		}
		u := Upstream{BaseURL: "https://" + h.Name, Dialect: h.Dialect, provider: h.Provider}
		if h.Provider == "azure" {
			u.BaseURL = "https://" + resourceMark + "." + h.Name
		}
		if h.ReportsUsage && h.Dialect == provider.OpenAI {
			u.IncludeUsage = new(bool)
		}
		known[h.Route()] = u
	}
	return known
}

const resourceMark = "{resource}"

// upstream is a validated [Upstream].
type upstream struct {
	name      string // in routes
	provider  string // in events
	dialect   provider.Dialect
	scheme    string
	host      string
	path      string   // of the base URL, without trailing slash
	overlaps  []string // suffixes of path, longest first, that callers may send too
	resources bool     // routes are /name/{resource}/…
	perHost   bool     // the resource is part of the host
	usage     bool
	transport http.RoundTripper

	refused  sync.Map // base URL → time.Time at which it rejected stream_options
	requests sync.Map // outcome → prometheus.Counter
	added    prometheus.Observer
	ttfb     prometheus.Observer
}

func (u *upstream) requestsUsage(base string) bool {
	if !u.usage {
		return false
	}
	at, ok := u.refused.Load(base)
	return !ok || time.Since(at.(time.Time)) > provider.UsageRefusalTTL
}

func newUpstream(name string, c Upstream) (*upstream, error) {
	known := DefaultUpstreams()[name]
	if c.BaseURL == "" {
		c.BaseURL = known.BaseURL
	}
	if c.Dialect == "" {
		c.Dialect = known.Dialect
	}
	if c.Dialect == "" {
		c.Dialect = provider.OpenAI
	}
	if c.IncludeUsage == nil {
		c.IncludeUsage = known.IncludeUsage
	}
	if !validName(name) {
		return nil, event.Invalid("the upstream's name "+name+" cannot be part of a route", "use lower-case letters, digits, - and _; v1 is taken")
	}
	if c.Dialect != provider.OpenAI && c.Dialect != provider.Anthropic && c.Dialect != provider.Gemini {
		return nil, event.Invalid("the upstream "+name+" has an unknown dialect", "use openai, anthropic or gemini")
	}
	// {resource} is not valid in a host name, so a placeholder replaces it
	// while the URL is parsed.
	const placeholder = "hedgerow-resource-mark"
	b, err := url.Parse(strings.Replace(c.BaseURL, resourceMark, placeholder, 1))
	if err != nil || b.Scheme != "http" && b.Scheme != "https" || b.Host == "" || b.User != nil || b.RawQuery != "" || b.Fragment != "" {
		return nil, event.NewError(event.CodeInvalid, "the base URL of the upstream "+name+" is not usable", "give scheme, host and path only, as in https://api.openai.com", nil)
	}
	u := &upstream{
		name: name, provider: cmp.Or(known.provider, name), dialect: c.Dialect, scheme: b.Scheme,
		host: strings.Replace(b.Host, placeholder, resourceMark, 1), path: strings.TrimRight(b.Path, "/"),
		resources: name == "azure" || strings.Contains(b.Host, placeholder), perHost: strings.Contains(b.Host, placeholder),
		usage: c.Dialect == provider.OpenAI,
	}
	if c.IncludeUsage != nil {
		u.usage = u.usage && *c.IncludeUsage
	}
	for i := range len(u.path) {
		if u.path[i] == '/' {
			u.overlaps = append(u.overlaps, u.path[i:])
		}
	}
	return u, nil
}

func validName(s string) bool {
	if s == "" || s == "v1" || s[0] == '-' || s[0] == '_' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// validResource reports whether s is one DNS label, so that it cannot change
// the provider's domain.
func validResource(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i] | 0x20; (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '-' {
			return false
		}
	}
	return true
}

// route is the destination of one call.
type route struct {
	up      *upstream
	host    string
	path    string // to send, decoded and as it was escaped ("" for the default escaping)
	rawPath string
	base    string // for the event: base + below is the URL without its query
	below   string
	region  string // of Amazon Bedrock; "" elsewhere
}

// Handles reports whether a path belongs to the gateway.
func (g *Gateway) Handles(path string) bool {
	if g.telemetry(path) {
		return false
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return first == "v1" || g.upstreams[first] != nil
}

// route finds the upstream and the path below its base.
func (g *Gateway) route(r *http.Request) (route, *event.Error) {
	path, raw := r.URL.Path, r.URL.RawPath
	if strings.Contains(path, "/..") && slices.Contains(strings.Split(path, "/"), "..") {
		return route{}, event.Invalid("the path contains ..", "use the path from the provider's documentation")
	}
	if g.telemetry(path) {
		return route{}, event.NewError(event.CodeNotFound, "this is an OTLP path, not a provider's", "send telemetry to hedgerow's OTLP endpoint", nil)
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if first == "v1" {
		up := g.upstreams["openai"]
		if messages(path) || len(r.Header["Anthropic-Version"]) > 0 {
			up = g.upstreams["anthropic"]
		}
		return up.to("", path, raw), nil
	}
	up := g.upstreams[first]
	if up == nil {
		return route{}, event.NewError(event.CodeNotFound, "unknown provider", "use one of "+strings.Join(slices.Sorted(maps.Keys(g.upstreams)), ", ")+", or add it under upstreams in hedgerow.yaml", nil)
	}
	cut := 1 + len(first)
	resource := ""
	if up.resources {
		resource, _, _ = strings.Cut(strings.TrimPrefix(path[cut:], "/"), "/")
		if !validResource(resource) {
			return route{up: up}, event.Invalid("the path has no resource", "send it as /"+up.name+"/RESOURCE/…")
		}
		cut += 1 + len(resource)
	}
	if raw != "" {
		if rest, ok := strings.CutPrefix(raw, path[:cut]); !ok || rest != "" && rest[0] != '/' {
			return route{up: up}, event.Invalid("the start of the path is percent-encoded", "send the provider's name and the slash after it unescaped")
		}
		raw = raw[cut:]
	}
	t := up.to(resource, path[cut:], raw)
	if up.name == "bedrock" {
		t.region = bedrockRegion(t.below, r.Header.Get("Authorization"))
		if host := "bedrock-runtime." + t.region + ".amazonaws.com"; up.host == bedrockHost && host != t.host {
			t.host, t.base = host, up.scheme+"://"+host
		} else if region, ok := strings.CutPrefix(t.host, "bedrock-runtime."); ok { // of the settings
			t.region, _, _ = strings.Cut(region, ".")
		}
	}
	return t, nil
}

// bedrockHost is Bedrock's host unless a call or the settings name another
// region.
const bedrockHost = "bedrock-runtime." + bedrockDefault + ".amazonaws.com"

const bedrockDefault = "us-east-1"

// shortTermKey is the start of a short-term Bedrock API key.
const shortTermKey = "bedrock-api-key-"

// bedrockRegion returns the region in the model's ARN, or else in the signature
// (Credential=KEY/DATE/REGION/…) or the short-term Bedrock API key, which is a
// presigned URL in base64 (aws-bedrock-token-generator). A long-term key names none:
// then it is a region in which the model's inference profile can be called.
func bedrockRegion(path, authorization string) string {
	region := ""
	if _, arn, ok := strings.Cut(path, "/model/arn:"); ok {
		if parts := strings.SplitN(arn, ":", 4); len(parts) == 4 {
			region = parts[2]
		}
	}
	if _, key, ok := strings.Cut(authorization, "Bearer "+shortTermKey); ok && region == "" {
		if b, err := base64.StdEncoding.DecodeString(key); err == nil {
			authorization = strings.ReplaceAll(string(b), "%2F", "/") // X-Amz-Credential=KEY/DATE/REGION/…
		}
	}
	if _, scope, ok := strings.Cut(authorization, "Credential="); ok && region == "" {
		if parts := strings.SplitN(scope, "/", 4); len(parts) == 4 {
			region = parts[2]
		}
	}
	if validResource(region) {
		return region
	}
	_, model, _ := strings.Cut(path, "/model/")
	profile, _, _ := strings.Cut(model, ".")
	return cmp.Or(bedrockProfiles[profile], bedrockDefault)
}

// bedrockProfiles has a source region of each geography of inference profiles that
// us-east-1 is not in
// (https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html).
var bedrockProfiles = map[string]string{"eu": "eu-west-1", "apac": "ap-northeast-1", "jp": "ap-northeast-1", "au": "ap-southeast-2", "us-gov": "us-gov-west-1"}

func messages(path string) bool {
	rest, ok := strings.CutPrefix(path, "/v1/messages")
	return ok && (rest == "" || rest[0] == '/')
}

// skipDecoded returns the rest of an escaped path after its first n decoded
// bytes.
func skipDecoded(raw string, n int) string {
	i := 0
	for ; n > 0 && i < len(raw); n-- {
		if raw[i] == '%' {
			i += 2
		}
		i++
	}
	return raw[min(i, len(raw)):]
}

// vertexHost is Vertex AI's host for the location global, and for calls that
// name none.
const vertexHost = "aiplatform.googleapis.com"

// vertexAt returns Vertex AI's host for the location in a path
// (https://docs.cloud.google.com/vertex-ai/docs/general/locations): a region's
// host has the region as prefix, us and eu have hosts of their own.
func vertexAt(path string) string {
	_, after, _ := strings.Cut(path, "/locations/")
	location, _, _ := strings.Cut(after, "/")
	switch {
	case location == "us", location == "eu":
		return "aiplatform." + location + ".rep.googleapis.com"
	case location == "global", !validResource(location):
		return vertexHost
	}
	return location + "-" + vertexHost
}

// to joins the base URL and what the caller sent below the route. A part that
// both have is used once.
func (u *upstream) to(resource, below, raw string) route {
	t := route{up: u, host: u.host, below: below, path: u.path + below, base: u.path}
	if u.perHost {
		t.host = strings.Replace(u.host, resourceMark, resource, 1)
	}
	if u.host == vertexHost {
		t.host = vertexAt(below)
	}
	for _, o := range u.overlaps {
		if rest, ok := strings.CutPrefix(below, o); ok && (rest == "" || rest[0] == '/') {
			t.path, t.base = u.path+rest, u.path[:len(u.path)-len(o)]
			raw = skipDecoded(raw, len(o))
			break
		}
	}
	if raw != "" {
		t.rawPath = u.path + raw
	}
	t.base = u.scheme + "://" + t.host + t.base
	return t
}
