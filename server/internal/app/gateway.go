package app

import (
	"net/http"
	"slices"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Upstreams are the providers that the configuration names or moves.
func Upstreams(c *config.Config) map[string]gateway.Upstream {
	out := make(map[string]gateway.Upstream)
	for name, base := range map[string]string{"openai": c.UpstreamOpenAI, "anthropic": c.UpstreamAnthropic, "gemini": c.UpstreamGemini, "openrouter": c.UpstreamOpenRouter, "azure": c.UpstreamAzure,
		"vertex": c.UpstreamVertex, "cohere": c.UpstreamCohere, "bedrock": c.UpstreamBedrock} {
		if base != "" {
			u := gateway.DefaultUpstreams()[name]
			u.BaseURL = base
			out[name] = u
		}
	}
	for name, u := range c.Upstreams {
		out[name] = gateway.Upstream{BaseURL: u.BaseURL, Dialect: provider.Dialect(u.Dialect), IncludeUsage: u.IncludeUsage, Timeout: u.Timeout}
	}
	return out
}

func (a *App) gatewayConfig(e gateway.Appender) gateway.Config {
	ups := Upstreams(a.cfg)
	for name, known := range gateway.DefaultUpstreams() {
		if _, ok := ups[name]; !ok {
			ups[name] = known
		}
	}
	for name, u := range ups {
		if u.Timeout == 0 {
			u.Timeout = a.cfg.UpstreamTimeout
		}
		if !a.cfg.IncludeUsage && u.IncludeUsage == nil {
			u.IncludeUsage = new(bool)
		}
		ups[name] = u
	}
	return gateway.Config{
		Upstreams: ups, Authorize: a.authorize, Append: e, Telemetry: otlp.IsPath, Prompts: gatewayPrompts{a}, Submissions: &a.submissions, Logger: a.log.With("part", "gateway"), Registerer: a.metrics,
		Limits: gateway.Limits{Queue: a.cfg.CaptureQueue, RequestBudget: config.MustSize(a.cfg.BufferBudget), IdleUpstream: a.share.IdleUpstream},
	}
}

// provisional replaces the first project until it can be created, with the same
// id.
var provisional = project.Project{ID: project.DefaultID, Settings: project.DefaultSettings()}

// keyless is what happens to calls without a key: on a loopback address they go
// to the first project, however many there are, until keys are required.
func (a *App) keyless() project.Keyless {
	snap := a.snapshot()
	first, _ := snap.FirstProject()
	addr := a.cfg.Listen
	if a.listener != nil {
		addr = a.listener.Addr().String()
	}
	k := project.Keyless{Project: first.Name, Refused: snap.Server().RequireKey, Fixed: a.cfg.RequireKeySet}
	if k.Fixed {
		k.Refused = a.cfg.RequireKey
	}
	if addr != "" && !config.IsLoopback(addr) {
		k.Refused, k.Fixed = true, true
	}
	return k
}

// authorize admits a call. With a key its project is the key's. Without one it
// belongs to the first project, if [App.keyless] and [gateway.Keyless] allow
// that.
func (a *App) authorize(key string, r *http.Request) (gateway.Grant, error) {
	snap := a.snapshot()
	var to project.Project
	var surface string // of the key
	if own, ok := gateway.InternalProject(r); ok {
		to, _ = snap.Project(own)
		to.ID, to.Settings.IncludeUsage = own, false
	} else if key != "" {
		if !a.projectsKnown() {
			return gateway.Grant{}, errNotOpen("the settings")
		}
		p, k, ok := snap.ProjectByAPIKey(key)
		if !ok {
			return gateway.Grant{}, event.NewError(event.CodeUnauthorized, "unknown hedgerow key", "check it, or create one with hedgerow project add-key", nil)
		}
		// For every request: a call costs the project money, and can delete
		// data at the provider.
		if !k.May().Has(project.ScopeGateway) {
			return gateway.Grant{}, project.MissingScope(k.May(), project.ScopeGateway)
		}
		to, surface = p, k.Surface
	} else {
		first, ok := snap.FirstProject()
		if !ok || !a.projectsKnown() {
			first = provisional
		}
		if a.keyless().Refused {
			return gateway.Grant{}, event.NewError(event.CodeUnauthorized, "this server requires a hedgerow key", "send X-Hedgerow-Key: hr_… in addition to your provider's key; create one with: hedgerow project add-key", nil)
		}
		if e := gateway.Keyless(r); e != nil {
			return gateway.Grant{}, e
		}
		to = first
	}
	return gateway.Grant{
		ProjectID:         to.ID,
		SkipUsage:         !to.Settings.IncludeUsage,
		AttributionFields: to.Settings.AttributionFields,
		Surface:           surface,
		RecordStart: slices.ContainsFunc(snap.Connections(to.ID), func(c project.Connection) bool {
			return c.Enabled && (c.Schema == project.SchemaLLMEvents || c.Schema == project.SchemaBoth)
		}),
		ProviderKey: func(name string) (string, bool) {
			s, ok := a.snapshot().ProviderKey(to.ID, name)
			return s.Reveal(), ok
		},
	}, nil
}
