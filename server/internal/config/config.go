package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
	"go.yaml.in/yaml/v3"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/disk"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// Config holds the settings of the process. Each setting is a flag
// (--journal-max-bytes), an environment variable (HEDGEROW_JOURNAL_MAX_BYTES)
// and a key of hedgerow.yaml (journal_max_bytes); the first of these that is
// set takes precedence, in this order.
type Config struct {
	Version string // of hedgerow; not a setting

	Listen string
	// TLSCert and TLSKey are PEM files of the listeners' certificate. TLSCert may be
	// LoopbackCert, without a key.
	TLSCert, TLSKey string
	// OTLPGRPCListen is empty where OTLP is taken over HTTP only.
	OTLPGRPCListen string
	Roles          string
	Data           string
	PublicURL      string
	// TrustedProxies is a comma list of networks; Proxies reads it.
	TrustedProxies string
	LogLevel       string
	LogFormat      string

	JournalMaxBytes     string
	JournalSync         string
	JournalSyncInterval time.Duration
	NATSURL             string
	// PricesRefresh is where prices are refreshed from: on (the feed of genai-prices),
	// off, or an address that has the same form.
	PricesRefresh         string
	PricesRefreshInterval time.Duration

	// MinFreeDisk is "auto", a size or a percentage; see disk.ParseLimit.
	MinFreeDisk string
	// StoreMemory is "auto" or a size; StoreMemoryBytes reads it.
	StoreMemory string

	UpstreamOpenAI, UpstreamAnthropic, UpstreamGemini, UpstreamOpenRouter, UpstreamAzure, UpstreamVertex, UpstreamCohere, UpstreamBedrock string

	// CloudCredentials lists the clouds whose credentials of the server are used.
	CloudCredentials   string
	TrustAWSSignatures bool
	IncludeUsage       bool
	UpstreamTimeout    time.Duration
	CaptureQueue       int
	BufferBudget       string
	RequireKey         bool
	RequireKeySet      bool // RequireKey was given: it wins over the switch of the pages
	limitConfig

	SMTPFrom             string
	SMTPPasswordFile     string // see Mail
	AllowInsecurePostHog bool
	// PostHogAllowHosts is a list; PostHogClient reads it. PostHogCA is a path.
	PostHogAllowHosts string
	PostHogCA         string
	ShutdownGrace     time.Duration
	// JoinHold is how long delivery waits for the other capture of a call where one is
	// expected. 0: not at all.
	JoinHold time.Duration

	// Only in the file.
	Upstreams        map[string]upstreamConfig
	Prices           yaml.Node
	AzureDeployments map[string]string

	// Only in the environment, because they are secrets.
	SecretKey             string
	PostHogAPIKey         string
	PostHogHost           string
	PostHogPersonalAPIKey string
	SMTPURL               string // smtp://user:password@host:587 or smtps://…:465

	Quiet bool // no output on standard error: hedgerow mcp, whose client logs it
}

// upstreamConfig is one entry under "upstreams:" in hedgerow.yaml.
type upstreamConfig struct {
	BaseURL      string        `yaml:"base_url"`
	Dialect      string        `yaml:"dialect"`       // openai (default), anthropic or gemini
	IncludeUsage *bool         `yaml:"include_usage"` // default: the global include_usage
	Timeout      time.Duration `yaml:"timeout"`       // default: the global upstream_timeout
}

// The roles of a process: the gateway's routes, the ingestion routes, the store
// and delivery to PostHog, the pages and the API.
const (
	RoleGateway = "gateway"
	RoleIngest  = "ingest"
	RoleSinks   = "sinks"
	RoleWeb     = "web"
	allRoles    = "gateway,ingest,sinks,web"
)

// Has reports whether the process has a role. A subcommand, which does not
// read --roles, has all roles of its server.
func (c *Config) Has(role string) bool {
	return c.Roles == "" || slices.Contains(c.roles(), role)
}

// refuseSplit rejects settings that would split events between stores, or
// leave them in a journal without a reader.
func (c *Config) refuseSplit() error {
	switch {
	case c.NATSURL != "" && slices.ContainsFunc(strings.Split(allRoles, ","), func(r string) bool { return !c.Has(r) }):
		return Invalid("roles: with nats_url a process has to run all of "+allRoles, "remove roles: the store is one file of one process, so that processes sharing a NATS cluster would each store part of the events", nil)
	case !c.Has(RoleSinks):
		return Invalid("roles: without "+RoleSinks+" nothing is stored, delivered or deleted after its retention", "add "+RoleSinks+" to roles, or leave roles out", nil)
	}
	return nil
}

func (c *Config) roles() []string {
	list := strings.Split(c.Roles, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// reservedNames are the first parts of hedgerow's own paths, which no upstream
// may take: pages, API, and what PostHog's SDKs request.
var reservedNames = []string{
	"api", "mcp", "healthz", "readyz", "metrics", "debug", "v1",
	"p", "overview", "events", "traces", "sign-in", "sign-out", "welcome", "projects", "users", "audit", "account", "static", "assets",
	"batch", "capture", "e", "i", "s", "track", "engage", "flags", "decide", "array",
}

// fileOnly names the keys of hedgerow.yaml that are no flags.
var fileOnly = []string{"upstreams", "prices", "azure_deployments"}

func dataFlag(c *Config) cli.Flag {
	return &cli.StringFlag{Name: "data", Value: "./data", Usage: "data folder", Sources: cli.EnvVars("HEDGEROW_DATA"), Destination: &c.Data}
}

func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Usage: "configuration file (default: ./hedgerow.yaml if it exists)", Sources: cli.EnvVars("HEDGEROW_CONFIG")}
}

// Flags returns the flags of all settings, with defaults and environment
// variables. Parsed values are stored in c.
func (c *Config) Flags() []cli.Flag {
	str := func(dst *string, name, def, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Value: def, Usage: usage, Sources: cli.EnvVars(envName(name)), Destination: dst}
	}
	dur := func(dst *time.Duration, name string, def time.Duration, usage string) cli.Flag {
		return &cli.DurationFlag{Name: name, Value: def, Usage: usage, Sources: cli.EnvVars(envName(name)), Destination: dst}
	}
	boolean := func(dst *bool, name string, def bool, usage string) cli.Flag {
		return &cli.BoolFlag{Name: name, Value: def, Usage: usage, Sources: cli.EnvVars(envName(name)), Destination: dst}
	}
	return append([]cli.Flag{
		configFlag(),
		dataFlag(c),
		str(&c.Listen, "listen", "127.0.0.1:4100", "address to listen on"),
		str(&c.TLSCert, "tls-cert", "", "PEM file with the certificate and its chain to serve HTTPS with, or loopback: a certificate made for this machine (default: HTTP)"),
		str(&c.TLSKey, "tls-key", "", "PEM file with the key of tls-cert"),
		str(&c.OTLPGRPCListen, "otlp-grpc-listen", "", "address for OpenTelemetry over gRPC, usually 127.0.0.1:4317 (default: OTLP over HTTP only)"),
		str(&c.Roles, "roles", allRoles, "components that this process runs: "+allRoles),
		str(&c.PublicURL, "public-url", "", "public base URL of hedgerow, also for links in PostHog (default: http:// or https://, and the address)"),
		str(&c.TrustedProxies, "trusted-proxies", "", "comma-separated networks of reverse proxies whose X-Forwarded-For is trusted: 10.0.0.0/8,172.18.0.2 (loopback, too, if public-url has another host)"),
		str(&c.LogLevel, "log-level", "info", "debug, info, warn or error"),
		str(&c.LogFormat, "log-format", "text", "text or json"),
		str(&c.JournalMaxBytes, "journal-max-bytes", "4GiB", "maximum size of the journal on disk; beyond it new events are rejected"),
		str(&c.JournalSync, "journal-sync", "interval", "interval (survives a killed process; a power cut loses at most the interval) or always (fsync before each acknowledgement)"),
		dur(&c.JournalSyncInterval, "journal-sync-interval", time.Second, "time between two syncs to disk with --journal-sync interval"),
		str(&c.StoreMemory, "store-memory", auto, "memory limit of the store for queries: a size, or auto: a quarter of the machine's or container's memory, from 256 MiB to 4 GiB"),
		str(&c.MinFreeDisk, "min-free-disk", auto, "minimum free space on the data folder's disk: a size, a percentage of the disk such as 5%, or auto: 2% within 512 MiB and 10 GiB; at most a quarter of the disk"),
		str(&c.PricesRefresh, "prices-refresh", "on", "on (from the public feed of genai-prices), off, or the address of a list of the same form"),
		dur(&c.PricesRefreshInterval, "prices-refresh-interval", 24*time.Hour, "time between two refreshes of the prices, at least an hour"),
		str(&c.NATSURL, "nats-url", "", "external NATS cluster instead of the embedded one"),
		str(&c.UpstreamOpenAI, "upstream-openai", "", "base URL instead of https://api.openai.com"),
		str(&c.UpstreamAnthropic, "upstream-anthropic", "", "base URL instead of https://api.anthropic.com"),
		str(&c.UpstreamGemini, "upstream-gemini", "", "base URL instead of https://generativelanguage.googleapis.com"),
		str(&c.UpstreamOpenRouter, "upstream-openrouter", "", "base URL instead of https://openrouter.ai"),
		str(&c.UpstreamAzure, "upstream-azure", "", "base URL instead of https://{resource}.openai.azure.com"),
		str(&c.UpstreamVertex, "upstream-vertex", "", "base URL instead of https://{location}-aiplatform.googleapis.com"),
		str(&c.UpstreamCohere, "upstream-cohere", "", "base URL instead of https://api.cohere.com"),
		str(&c.UpstreamBedrock, "upstream-bedrock", "", "base URL instead of https://bedrock-runtime.us-east-1.amazonaws.com"),
		str(&c.CloudCredentials, "cloud-credentials", "", "aws, google or aws,google: callers with a hedgerow key, whose project has no key for Bedrock or Vertex, use the server's own credentials"),
		boolean(&c.TrustAWSSignatures, "trust-aws-signatures", false, "accept Bedrock requests signed with any AWS key, without verifying the signature, and re-sign them"),
		boolean(&c.IncludeUsage, "include-usage", true, "request token counts on streams from OpenAI-compatible providers, and hide them from the caller"),
		dur(&c.UpstreamTimeout, "upstream-timeout", 0, "maximum wait for a provider's response to begin; 0: as long as the caller waits"),
		&cli.IntFlag{Name: "capture-queue", Value: 50_000, Usage: "maximum number of calls waiting to be recorded; more are dropped and counted", Sources: cli.EnvVars("HEDGEROW_CAPTURE_QUEUE"), Destination: &c.CaptureQueue},
		str(&c.BufferBudget, "buffer-budget", "256MiB", "memory for request bodies being read, over all calls; beyond it bodies pass through unread"),
		boolean(&c.RequireKey, "require-key", false, "require a hedgerow key on every gateway call, on loopback too (default: as set on the Projects page, initially no)"),
		str(&c.SMTPFrom, "smtp-from", "", "sender of e-mail: hedgerow@example.com; the server is HEDGEROW_SMTP_URL, smtp://user:password@host:587"),
		str(&c.SMTPPasswordFile, "smtp-password-file", "", "file with the password of the user in HEDGEROW_SMTP_URL"),
		str(&c.PostHogAllowHosts, "posthog-allow-hosts", "", "comma-separated non-public hosts of a self-hosted PostHog (names, addresses, networks): posthog.internal,10.0.0.0/8; HTTPS is still required"),
		str(&c.PostHogCA, "posthog-ca", "", "PEM file with CA certificates for posthog-allow-hosts, in addition to the system's"),
		boolean(&c.AllowInsecurePostHog, "allow-insecure-posthog", false, "allow http:// and private PostHog hosts (for tests)"),
		dur(&c.JoinHold, "join-hold", 20*time.Second, "how long delivery of a call to PostHog waits for its other capture, in projects that both the gateway and wrappers report to; 0: no wait"),
		dur(&c.ShutdownGrace, "shutdown-grace", 10*time.Second, "timeout for a graceful shutdown"),
	}, c.limitConfig.flags()...)
}

func envName(flag string) string {
	return "HEDGEROW_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Proxies are the networks of TrustedProxies; an address is a network of one.
func (c *Config) Proxies() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for part := range strings.SplitSeq(c.TrustedProxies, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if ip, err := netip.ParseAddr(part); err == nil {
			out = append(out, netip.PrefixFrom(ip, ip.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, err
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// SubFlags returns the flags of a subcommand: its own, and every setting of
// serve, so that all read the same hedgerow.yaml, environment and command line.
// Help shows only the data folder and the configuration file.
func (c *Config) SubFlags(own ...cli.Flag) []cli.Flag {
	for _, f := range c.Flags() {
		switch f := f.(type) {
		case *cli.StringFlag:
			f.Hidden = f.Name != "data" && f.Name != "config"
		case *cli.DurationFlag:
			f.Hidden = true
		case *cli.BoolFlag:
			f.Hidden = true
		case *cli.IntFlag:
			f.Hidden = true
		}
		own = append(own, f)
	}
	return own
}

// LoadSub is Load for a subcommand: it logs only warnings and errors, unless
// --log-level is set, and has no roles.
func (c *Config) LoadSub(cmd *cli.Command) error {
	if err := c.Load(cmd); err != nil {
		return err
	}
	if !cmd.IsSet("log-level") {
		c.LogLevel = "warn"
	}
	c.Roles = ""
	return nil
}

// dataParts are files of a data folder; at least one exists.
var dataParts = []string{"journal", "secret.key", "hedgerow.duckdb", "settings"}

// RequireData rejects a data folder that hedgerow serve has not made.
func (c *Config) RequireData() error {
	const hint = "set the data folder with --data, HEDGEROW_DATA or data: in hedgerow.yaml; hedgerow serve creates a new one"
	info, err := os.Stat(c.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Exit(ExitData, event.NewError(event.CodeNotFound, "data folder not found "+c.Data, hint, nil))
	case err != nil:
		return Exit(ExitData, event.NewError(event.CodeUnavailable, "the data folder "+c.Data+" cannot be read", "check its permissions, or choose another with --data", err))
	case !info.IsDir():
		return Exit(ExitData, event.NewError(event.CodeInvalid, c.Data+" is a file, not a data folder", hint, nil))
	}
	for _, part := range dataParts {
		if _, err := os.Lstat(c.Path(part)); err == nil {
			return nil // doctor reports what else is missing
		} else if !errors.Is(err, fs.ErrNotExist) {
			return Exit(ExitData, event.NewError(event.CodeUnavailable, "the data folder "+c.Data+" cannot be read", "check its permissions, or choose another with --data", err))
		}
	}
	return Exit(ExitData, event.NewError(event.CodeNotFound, c.Data+" is not a data folder of hedgerow", hint, nil))
}

// RequireSettings returns an error for a data folder without settings:
// opening it would create new ones.
func (c *Config) RequireSettings() error {
	if err := c.RequireData(); err != nil || c.NATSURL != "" {
		return err
	}
	if _, err := os.Stat(c.Path("journal")); err == nil || !errors.Is(err, fs.ErrNotExist) || c.SettingsCopied() {
		return nil
	}
	return Exit(ExitData, event.NewError(event.CodeNotFound, "the data folder "+c.Data+" has no journal with the settings", "put the folder "+c.Path("journal")+" back, or restore a backup to another folder with hedgerow restore; hedgerow serve creates new settings", nil))
}

// SettingsCopied reports whether there is a copy of settings outside the journal.
func (c *Config) SettingsCopied() bool {
	list, err := filepath.Glob(c.Path("settings", "*.json"))
	return err == nil && len(list) > 0
}

// Load applies the configuration file and the environment's secrets after
// the flags, and validates the result.
func (c *Config) Load(cmd *cli.Command) error {
	if err := c.loadFile(cmd); err != nil {
		return err
	}
	c.Data = cmp.Or(c.Data, "./data") // an empty variable is none
	c.RequireKeySet = cmd.IsSet("require-key")
	c.SecretKey = os.Getenv("HEDGEROW_SECRET_KEY")
	c.SMTPURL = strings.TrimSpace(os.Getenv("HEDGEROW_SMTP_URL"))
	c.PostHogAPIKey = strings.TrimSpace(os.Getenv("POSTHOG_API_KEY"))
	c.PostHogHost = strings.TrimSpace(os.Getenv("POSTHOG_HOST"))
	c.PostHogPersonalAPIKey = strings.TrimSpace(os.Getenv("POSTHOG_PERSONAL_API_KEY"))
	return c.validate()
}

// commandLine is the part of a parsed command line that the file needs.
type commandLine interface {
	String(name string) string
	IsSet(name string) bool
	Set(name, value string) error
}

func (c *Config) loadFile(cmd commandLine) error {
	path, asked := cmd.String("config"), true
	if path == "" {
		path, asked = "hedgerow.yaml", false
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return nil
	}
	if err != nil {
		return Invalid("the configuration file cannot be read", "check the path "+path+" and its permissions", err)
	}
	return c.apply(path, b, cmd)
}

func (c *Config) apply(path string, b []byte, cmd commandLine) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return Invalid(path+" is not valid YAML", "fix the line named in the message", err)
	}
	if len(doc.Content) == 0 {
		return nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return Invalid(path+" is not a YAML mapping", "write lines of the form key: value", nil)
	}
	known := slices.Clone(fileOnly)
	for _, f := range new(Config).Flags() {
		known = append(known, strings.ReplaceAll(f.Names()[0], "-", "_"))
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, val := root.Content[i], root.Content[i+1]
		at := fmt.Sprintf("%s line %d", path, key.Line)
		if !slices.Contains(known, key.Value) || key.Value == "config" {
			return Invalid(fmt.Sprintf("%s: unknown setting %q", at, key.Value), DidYouMean(key.Value, known, "docs/configuration.md lists every key"), nil)
		}
		var err error
		switch key.Value {
		case "upstreams":
			err = strictDecode(val, &c.Upstreams)
		case "azure_deployments":
			err = strictDecode(val, &c.AzureDeployments)
		case "prices":
			c.Prices = *val
		default:
			if val.Kind != yaml.ScalarNode {
				err = errors.New("expected a single value")
				break
			}
			if name := strings.ReplaceAll(key.Value, "_", "-"); !cmd.IsSet(name) {
				err = cmd.Set(name, val.Value)
			}
		}
		if err != nil {
			return Invalid(fmt.Sprintf("%s: invalid value of %q", at, key.Value), "see docs/configuration.md for its format", err)
		}
	}
	return nil
}

// strictDecode decodes a node and rejects unknown keys, naming their line.
func strictDecode(n *yaml.Node, into any) error {
	var b strings.Builder
	b.WriteString(strings.Repeat("\n", max(0, n.Line-1))) // so that the decoder's line numbers are the file's
	enc, err := yaml.Marshal(n)
	if err != nil {
		return err
	}
	b.Write(enc)
	dec := yaml.NewDecoder(strings.NewReader(b.String()))
	dec.KnownFields(true)
	return dec.Decode(into)
}

// DidYouMean is a hint that names the known key that is most like a wrong one,
// or otherwise if none is like it.
func DidYouMean(key string, known []string, otherwise string) string {
	best, bestDist := "", 4
	for _, k := range known {
		if d := editDistance(key, k); d < bestDist {
			best, bestDist = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return otherwise
}

// editDistance is the Levenshtein distance of two short strings.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(diag+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func (c *Config) validate() error {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return Invalid(fmt.Sprintf("listen: %q is not an address", c.Listen), "write host:port, for example 127.0.0.1:4100", err)
	}
	for _, r := range c.roles() {
		if c.Roles != "" && !slices.Contains(strings.Split(allRoles, ","), r) {
			return Invalid(fmt.Sprintf("roles: unknown role %q", r), "use one or more of "+allRoles, nil)
		}
	}
	if err := c.refuseSplit(); err != nil {
		return err
	}
	if err := c.validateTLS(); err != nil {
		return err
	}
	for _, name := range c.clouds() {
		if name != "aws" && name != "google" {
			return Invalid(fmt.Sprintf("cloud_credentials: unknown cloud %q", name), "use aws, google, or aws,google", nil)
		}
	}
	if strings.TrimSpace(c.SecretKey) != "" {
		if _, err := project.LoadSecretKey(c.SecretKey, ""); err != nil {
			return Exit(ExitConfig, err)
		}
	}
	if err := c.validatePriceFeed(); err != nil {
		return err
	}
	if _, err := disk.ParseLimit(c.MinFreeDisk, ParseSize); err != nil {
		return Invalid(fmt.Sprintf("min_free_disk: %q is not auto, a size or a percentage", c.MinFreeDisk), "omit it for auto, or use a number with a unit, for example 2GiB or 5%", err)
	}
	if _, err := c.Proxies(); err != nil {
		return Invalid(fmt.Sprintf("trusted_proxies: %q is not a list of networks", c.TrustedProxies), "use comma-separated addresses or networks, for example 10.0.0.0/8,172.18.0.2", err)
	}
	if err := c.validatePostHog(); err != nil {
		return err
	}
	if c.JoinHold < 0 || c.JoinHold > 10*time.Minute {
		return Invalid(fmt.Sprintf("join_hold: %v is not between 0 and 10 minutes", c.JoinHold), "omit it for 20s, or set it to 0 to send every call immediately", nil)
	}
	if _, err := c.Level(); err != nil {
		return Invalid(fmt.Sprintf("log_level: %q is not a level", c.LogLevel), "use debug, info, warn or error", err)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return Invalid(fmt.Sprintf("log_format: %q is not a format", c.LogFormat), "use text or json", nil)
	}
	if c.JournalSync != "interval" && c.JournalSync != "always" {
		return Invalid(fmt.Sprintf("journal_sync: %q is not a mode", c.JournalSync), "use interval or always", nil)
	}
	for name, v := range map[string]string{"journal_max_bytes": c.JournalMaxBytes, "buffer_budget": c.BufferBudget} {
		if n, err := ParseSize(v); err != nil || n < 1<<20 {
			return Invalid(fmt.Sprintf("%s: %q is not a size of at least 1 MiB", name, v), "write a number with a unit, for example 4GiB or 512MiB", err)
		}
	}
	if _, err := c.StoreMemoryBytes(); err != nil {
		return Invalid(fmt.Sprintf("store_memory: %q is not auto or a size of at least %d MiB", c.StoreMemory, store.MinMemoryBytes>>20), "omit it for auto, or use a number with a unit, for example 512MiB", err)
	}
	for name, v := range map[string]string{"public_url": c.PublicURL, "upstream_openai": c.UpstreamOpenAI, "upstream_anthropic": c.UpstreamAnthropic,
		"upstream_gemini": c.UpstreamGemini, "upstream_openrouter": c.UpstreamOpenRouter, "upstream_azure": c.UpstreamAzure, "upstream_vertex": c.UpstreamVertex,
		"upstream_cohere": c.UpstreamCohere, "upstream_bedrock": c.UpstreamBedrock} {
		if v != "" && !isHTTPURL(v) {
			return Invalid(fmt.Sprintf("%s: %q is not a URL", name, v), "use https://host or http://host:port", nil)
		}
	}
	for name, u := range c.Upstreams {
		if slices.Contains(reservedNames, strings.ToLower(name)) {
			return Invalid(fmt.Sprintf("upstreams.%s: the name is reserved for hedgerow's own paths", name), "choose another name: it is the first part of the base URL", nil)
		}
		if !isHTTPURL(u.BaseURL) {
			return Invalid(fmt.Sprintf("upstreams.%s.base_url: %q is not a URL", name, u.BaseURL), "use https://host/path", nil)
		}
		if u.Dialect != "" && u.Dialect != "openai" && u.Dialect != "anthropic" && u.Dialect != "gemini" {
			return Invalid(fmt.Sprintf("upstreams.%s.dialect: unknown dialect %q", name, u.Dialect), "use openai, anthropic or gemini", nil)
		}
	}
	if c.CaptureQueue < 1 {
		return Invalid("capture_queue must be at least 1", "omit it for the default of 50000", nil)
	}
	return c.limitConfig.validate()
}

// auto is a default that depends on the machine.
const auto = "auto"

// StoreMemoryBytes is the store's memory in bytes, 0 where it goes with the store.
func (c *Config) StoreMemoryBytes() (int64, error) {
	if c.StoreMemory == auto || c.StoreMemory == "" {
		return 0, nil
	}
	n, err := ParseSize(c.StoreMemory)
	if err == nil && n < store.MinMemoryBytes {
		err = errors.New("too little")
	}
	return n, err
}

func (c *Config) clouds() (list []string) {
	for name := range strings.SplitSeq(c.CloudCredentials, ",") {
		if name = strings.TrimSpace(name); name != "" {
			list = append(list, name)
		}
	}
	return list
}

// HasCloud reports whether the server's own credentials for a cloud are used: aws or
// google.
func (c *Config) HasCloud(name string) bool { return slices.Contains(c.clouds(), name) }

func isHTTPURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// Level is LogLevel as slog has it.
func (c *Config) Level() (slog.Level, error) {
	var l slog.Level
	err := l.UnmarshalText([]byte(c.LogLevel))
	return l, err
}

// ParseSize reads "4GiB", "512MB", "100k" or a plain number of bytes. Units are
// binary, with or without the i.
func ParseSize(s string) (int64, error) {
	t := strings.ToLower(strings.TrimSpace(s))
	t = strings.TrimSuffix(strings.TrimSuffix(t, "b"), "i")
	shift := 0
	if t != "" {
		if i := strings.IndexByte("kmgt", t[len(t)-1]); i >= 0 {
			shift, t = 10*(i+1), t[:len(t)-1]
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(t), 64)
	if err != nil || n < 0 || n*float64(int64(1)<<shift) > 1<<62 {
		return 0, fmt.Errorf("not a size: %q", s)
	}
	return int64(n * float64(int64(1)<<shift)), nil
}

// MustSize is for sizes that validate has accepted.
func MustSize(s string) int64 {
	n, err := ParseSize(s)
	if err != nil {
		panic(err)
	}
	return n
}

// Path is the path of a file or folder in the data folder.
func (c *Config) Path(elem ...string) string {
	return filepath.Join(append([]string{c.Data}, elem...)...)
}

// socketName is the Unix socket in the data folder on which a running hedgerow
// accepts commands from users who can read that folder. It serves the same API
// as the network, as an administrator and without a key; its mode is 0600.
const socketName = "hedgerow.sock"

// SocketPath keeps within the 104 bytes that the shortest-tempered systems
// allow a socket's path: beyond it, the path relative to the working folder.
func (c *Config) SocketPath() string {
	p, err := filepath.Abs(c.Path(socketName))
	if err != nil || len(p) > 100 {
		return c.Path(socketName)
	}
	return p
}

// LastGood is where the copy of a bucket of settings is kept outside of the journal.
func (c *Config) LastGood(bucket string) string { return c.Path("settings", bucket+".json") }

// IsLoopback reports whether the address to listen on is reachable from this
// machine only.
func IsLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
