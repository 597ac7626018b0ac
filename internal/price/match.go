package price

import (
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// maxName bounds the names that are looked up: longer ones are no model's.
const maxName = 256

// match is what a name leads to.
type match struct {
	row     *entry // nil: unknown
	private bool   // by an own price or an alias: someone said so
	claude  bool   // counted and billed in Anthropic's way
}

// Match returns the row that prices a model at a provider. Both are taken as
// events have them; either may be in any of the spellings below.
//
//   - Own prices first, then aliases of deployments, then the table.
//   - Case does not matter, nor which punctuation parts the words: claude-sonnet-4.5
//     is claude-sonnet-4-5.
//   - A full date at the end (-2025-04-14, -20250929, @20250929), "-latest" and
//     "[1m]" are taken off unless a row has the name with them: gpt-4o-2024-05-13
//     has a price of its own. Shorter marks such as -0613 are part of the name.
//   - Paths are taken apart: models/…, publishers/V/models/…, accounts/fireworks/models/…,
//     arn:aws:bedrock:…:foundation-model/…; Bedrock's region (us., eu., global. …)
//     and version (-v1:0) are taken off.
//   - A prefix that names a vendor (openai/…, bedrock/…) chooses the provider
//     when the event names none, a router, or the provider of the SDK (openai
//     and anthropic, whose SDKs people point at anything).
//   - OpenRouter's :nitro, :floor, :online, :thinking … are taken off; :free costs
//     nothing.
//   - ft:BASE:org:suffix:id is the fine-tune of BASE.
//   - azure falls back to openai and other vendors of its models, and then to the model
//     whose name a deployment's contains; amazon-bedrock to anthropic, google to anthropic
//     for Claude, openrouter to the vendor.
//   - A row may be for one region of amazon-bedrock, or for Vertex only, where google's
//     own API has another price: [Table.Price] takes it for calls there.
//
// Unlike PostHog's matching, nothing is found inside longer names, and a
// provider that the table does not know (a server of your own) takes no price
// from it, regardless of its models' names. Give those an own price.
func (t *Table) Match(provider, model string) (Row, bool) {
	m := t.match(provider, model, placeOf(provider, "", model))
	if m.row == nil {
		return Row{}, false
	}
	return m.row.Row, true
}

// vertex is the place of google's models whose calls go to Vertex.
const vertex = "vertex"

// maxRegion bounds the names of regions, which are parts of keys in memory.
const maxRegion = 32

// placeOf returns where a provider computed an answer, as far as prices depend on it:
// the region of Bedrock, or vertex. A row whose model is "PLACE/NAME" is of that place.
func placeOf(provider, baseURL, model string) string {
	if arn, ok := strings.CutPrefix(strings.ToLower(model), "arn:aws"); ok {
		if parts := strings.SplitN(arn, ":", 4); len(parts) == 4 && parts[1] == "bedrock" && len(parts[2]) <= maxRegion {
			return parts[2]
		}
	}
	_, host, _ := strings.Cut(strings.ToLower(baseURL), "://")
	host, _, _ = strings.Cut(host, "/")
	if rest, ok := strings.CutPrefix(host, "bedrock-"); ok {
		if parts := strings.SplitN(rest, ".", 3); len(parts) == 3 && len(parts[1]) <= maxRegion && strings.HasPrefix(parts[2], "amazonaws.com") {
			return parts[1]
		}
	}
	if strings.HasSuffix(host, "aiplatform.googleapis.com") || strings.Contains(strings.ToLower(provider), vertex) {
		return vertex
	}
	return ""
}

func (t *Table) match(provider, model, place string) match {
	key := matchKey{provider, model, place}
	if m, ok := t.matches.get(key); ok {
		return m
	}
	if len(model) > maxName || len(provider) > maxName {
		return match{}
	}
	m := t.find(canonicalProvider(provider), strings.ToLower(strings.TrimSpace(model)), place)
	t.matches.put(key, m)
	return m
}

func (t *Table) find(provider, model, place string) match {
	m := match{claude: isClaude(provider, model)}
	if model == "" {
		return m
	}
	if m.row = t.findOwn(provider, model); m.row != nil {
		m.private = true
		return m
	}
	for _, p := range []string{provider, ""} {
		public, ok := t.aliases[p][nameKey(model)]
		if !ok {
			continue
		}
		public = strings.ToLower(strings.TrimSpace(public))
		m = match{private: true, claude: isClaude(provider, public)}
		if m.row = t.findOwn(provider, public); m.row == nil {
			m.row = t.findPublic(provider, public, place)
		}
		return m
	}
	m.row = t.findPublic(provider, model, place)
	return m
}

// findOwn searches the own prices, whose names are the user's: what precedes
// the last slash may be left out.
func (t *Table) findOwn(provider, model string) *entry {
	if len(t.own) == 0 {
		return nil
	}
	names := []string{model}
	if i := strings.LastIndexByte(model, '/'); i >= 0 {
		names = append(names, model[i+1:])
	}
	for _, name := range names {
		for _, n := range variants(provider, name) {
			for _, p := range []string{provider, ""} {
				if e := t.ownIndex[p][nameKey(n)]; e != nil {
					return e
				}
			}
		}
	}
	return nil
}

// sdkProviders are named in events because their SDK was used, though its base
// URL may lead anywhere.
var sdkProviders = map[string]bool{"": true, "openai": true, "anthropic": true}

// routers forward calls to the provider in the model's name.
var routers = map[string]bool{
	"vercel": true, "gateway": true, "litellm": true, "litellm-proxy": true, "helicone": true, "portkey": true,
	"posthog": true, "cloudflare-ai-gateway": true, "requesty": true,
}

// unnamed lists where a model without provider is looked for: vendors whose
// names do not meet.
var unnamed = []string{"openai", "anthropic", "google", "mistral", "deepseek", "xai", "cohere", "perplexity", "moonshot"}

// azureVendors are those whose models Azure offers at their own prices.
var azureVendors = []string{"openai", "anthropic", "deepseek", "xai", "moonshot", "mistral"}

// deployment finds the model that a deployment at Azure runs. Its name is the
// team's: if it is not a model's name, the longest sequence of words in it that
// is one is used ("my-gpt-4o-deployment"), and the event says so. Azure itself
// names the model in its responses; this is for events without a response. A
// fine-tuned model has another price than the model in its name.
func (t *Table) deployment(model string) *entry {
	for _, p := range azureVendors {
		if e := t.lookup(p, model); e != nil {
			return t.atAzure(e)
		}
	}
	words := strings.FieldsFunc(model, func(c rune) bool { return c == '-' || c == '_' || c == ' ' })
	if len(words) > 12 || slices.ContainsFunc(words, func(w string) bool { return w == "ft" || strings.HasPrefix(w, "finetune") || w == "tuned" }) {
		return nil
	}
	for n := len(words) - 1; n > 0; n-- {
		for from := 0; from+n <= len(words); from++ {
			name := strings.Join(words[from:from+n], "-")
			for _, p := range []string{"azure", "openai"} {
				if e := t.of(p)[nameKey(name)]; e != nil && strings.ContainsAny(name, "0123456789") {
					guess := *t.atAzure(e)
					guess.guessed = true
					return &guess
				}
			}
		}
	}
	return nil
}

// atAzure is a row of OpenAI with what Azure charges for its tools.
func (t *Table) atAzure(e *entry) *entry {
	for _, every := range t.layers.corrections.of("azure") {
		if every.Model == "*" && e.Provider == "openai" {
			return newEntry(e.Row.with(&every))
		}
	}
	return e
}

func (t *Table) findPublic(provider, model, place string) *entry {
	// Bounded: each turn takes a prefix off the name or ends.
	for {
		if rest, ok := strings.CutPrefix(model, "ft:"); ok { // OpenAI: ft:BASE:org:suffix:id
			base, _, _ := strings.Cut(rest, ":")
			model = "ft:" + base
		}
		var ok bool
		if provider, model, ok = unwrap(provider, model); !ok {
			return nil
		}
		if place != "" && (provider == "google") == (place == vertex) && (provider == "google" || provider == "amazon-bedrock") {
			if e := t.lookup(provider, place+"/"+model); e != nil {
				return e
			}
		}
		if e := t.lookup(provider, model); e != nil {
			return e
		}
		prefix, rest, prefixed := strings.Cut(model, "/")
		named := ""
		if prefixed {
			named = canonicalProvider(prefix)
			if !t.knows(named) && named != "azure" && !routers[named] {
				named = ""
			}
		}
		free := strings.HasSuffix(model, ":free")
		switch {
		case free && provider == "openrouter":
			return &entry{Row: freeRow(model)}
		case named != "" && (named == provider || sdkProviders[provider] || routers[provider]):
			// openai/gpt-4.1 at openai; anthropic/claude-… by the OpenAI SDK.
			if free && named != "openrouter" {
				return &entry{Row: freeRow(model)}
			}
			provider, model = named, rest
		case provider == "openrouter" && named != "":
			return t.lookup(named, rest)
		case prefixed:
			return nil
		case provider == "" || routers[provider]:
			for _, p := range unnamed {
				if e := t.lookup(p, model); e != nil {
					return e
				}
			}
			return nil
		case provider == "azure":
			return t.deployment(model)
		case provider == "amazon-bedrock":
			return t.lookup("anthropic", strings.TrimPrefix(cutBedrockRegion(model), "anthropic."))
		case provider == "google" && strings.HasPrefix(model, "claude"):
			return t.lookup("anthropic", model)
		default:
			return nil
		}
	}
}

// lookup finds a name, or it without date and suffix, among a provider's rows.
func (t *Table) lookup(provider, model string) *entry {
	byName := t.of(provider)
	if byName == nil {
		return nil
	}
	for _, n := range variants(provider, model) {
		if e := byName[nameKey(n)]; e != nil {
			return e
		}
	}
	return nil
}

// freeRow is the price of a model that OpenRouter offers for nothing.
func freeRow(model string) Row {
	return Row{
		Provider: "openrouter", Model: strings.Clone(model), Rates: Rates{Input: zero, Output: zero},
		Origin: event.CostTable, Source: "https://openrouter.ai/docs/guides/routing/model-variants/free",
	}
}

// unwrap takes off the paths under which clouds name public models, and derives the
// cloud from them if the event has none or only an SDK. It reports false for names
// that are certainly private: a path on disk, a deployment, a tuned model.
func unwrap(provider, model string) (cloud, name string, ok bool) {
	loose := sdkProviders[provider] || routers[provider]
	at := func(cloud, name string, ok bool) (string, string, bool) {
		return cloud, name, ok && name != "" && (loose || provider == cloud)
	}
	if i := strings.IndexByte(model, '['); i > 0 && strings.HasSuffix(model, "]") {
		model = model[:i] // claude-sonnet-4-5[1m]
	}
	if strings.HasPrefix(model, "/") || strings.HasPrefix(model, ".") || strings.ContainsRune(model, '\\') {
		return "", "", false
	}
	if strings.HasPrefix(model, "arn:aws") {
		for _, kind := range []string{":foundation-model/", ":inference-profile/"} {
			if _, id, ok := strings.Cut(model, kind); ok {
				return at("amazon-bedrock", id, true)
			}
		}
		return "", "", false
	}
	if _, after, ok := strings.Cut(model, "publishers/"); ok {
		_, name, ok := strings.Cut(after, "/models/")
		return at("google", name, ok)
	}
	if after, ok := strings.CutPrefix(model, "accounts/"); ok {
		account, name, ok := strings.Cut(after, "/models/")
		if !ok {
			account, name, ok = strings.Cut(after, "/routers/")
		}
		return at("fireworks", name, ok && account == "fireworks")
	}
	for _, private := range []string{"projects/", "tunedmodels/", "endpoints/"} {
		if strings.HasPrefix(model, private) {
			return "", "", false
		}
	}
	if loose {
		bare := cutBedrockRegion(model)
		vendor, _, ok := strings.Cut(bare, ".")
		if ok && bedrockVendors[vendor] && (bare != model || cutBedrockVersion(bare) != bare) {
			return "amazon-bedrock", model, true
		}
	}
	return provider, strings.TrimPrefix(model, "models/"), true
}

// variants lists the names under which a model may be in the table, the most
// exact first. Bedrock's region is the last to go: "global." costs less.
func variants(provider, model string) []string {
	names := undated(provider, model)
	if provider == "amazon-bedrock" {
		if bare := cutBedrockRegion(model); bare != model {
			names = append(names, undated(provider, bare)...)
		}
	}
	return names
}

// undated lists a name, and what is left of it without version, suffix and date.
func undated(provider, model string) []string {
	names := []string{model}
	add := func(n string) string {
		if n != "" && n != names[len(names)-1] {
			names = append(names, n)
		}
		return n
	}
	if provider == "amazon-bedrock" {
		if i := strings.LastIndex(model, "-v"); i > 0 && strings.Count(model[i:], ":") == 2 {
			model = add(model[:strings.LastIndexByte(model, ':')]) // -v2:0:8k, whose row is that of -v2:0, not of all versions
		}
		model = add(cutBedrockVersion(model))
	}
	if i := strings.LastIndexByte(model, ':'); i > 0 && routing[model[i+1:]] {
		model = add(model[:i])
	}
	if i := strings.LastIndexByte(model, '@'); i > 0 {
		if tag := model[i+1:]; isDate(tag) || tag == "default" || tag == "latest" {
			model = add(model[:i])
		}
	}
	if n, ok := strings.CutSuffix(model, "-latest"); ok {
		model = add(n)
	}
	if n, ok := cutDate(model); ok {
		model = add(n)
	}
	if provider == "google" && len(model) > 4 && model[len(model)-4] == '-' && digits(model[len(model)-3:]) {
		add(model[:len(model)-4]) // gemini-2.0-flash-001
	}
	return names
}

// routing are OpenRouter's suffixes that choose how a call is routed, not which
// model answers. ":free" is not one: its price differs.
var routing = map[string]bool{
	"nitro": true, "floor": true, "online": true, "exacto": true, "extended": true, "thinking": true, "beta": true,
}

var bedrockRegions = map[string]bool{
	"us": true, "eu": true, "apac": true, "global": true, "jp": true, "au": true, "ca": true, "us-gov": true, "sa": true, "uk": true, "in": true,
}

// bedrockVendors begin Bedrock's model ids: anthropic.claude-…-v1:0.
var bedrockVendors = map[string]bool{
	"anthropic": true, "amazon": true, "meta": true, "mistral": true, "cohere": true, "ai21": true, "deepseek": true, "openai": true, "qwen": true,
	"google": true, "minimax": true, "moonshot": true, "moonshotai": true, "nvidia": true, "stability": true, "twelvelabs": true, "writer": true, "xai": true, "zai": true,
}

func cutBedrockRegion(model string) string {
	if region, rest, ok := strings.Cut(model, "."); ok && bedrockRegions[region] && strings.Contains(rest, ".") {
		return rest
	}
	return model
}

// cutBedrockVersion takes off -v1:0, and a context size behind it: -v1:0:128k.
func cutBedrockVersion(model string) string {
	i := strings.LastIndex(model, "-v")
	if i <= 0 {
		return model
	}
	major, minor, _ := strings.Cut(model[i+2:], ":")
	minor, _, _ = strings.Cut(minor, ":")
	if digits(major) && (minor == "" || digits(minor)) {
		return model[:i]
	}
	return model
}

// cutDate takes a full date off the end of a name: -2025-04-14 or -20250414.
func cutDate(model string) (string, bool) {
	if n := len(model) - 11; n > 0 && model[n] == '-' {
		if d := model[n+1:]; d[4] == '-' && d[7] == '-' && isDate(d[:4]+d[5:7]+d[8:]) {
			return model[:n], true
		}
	}
	if n := len(model) - 9; n > 0 && model[n] == '-' && isDate(model[n+1:]) {
		return model[:n], true
	}
	return model, false
}

// isDate reports whether s is a day of this age, as YYYYMMDD.
func isDate(s string) bool {
	return len(s) == 8 && digits(s) && s[:2] == "20" && s[4:6] >= "01" && s[4:6] <= "12" && s[6:] >= "01" && s[6:] <= "31"
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// nameKey is a name without case and with one way of parting words. Slashes and
// colons stay: they part vendor, model and variant.
func nameKey(s string) string {
	clean := true
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '/' || c == ':' || c == '-' && i > 0 && s[i-1] != '-' {
			continue
		}
		clean = false
		break
	}
	if clean {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z':
			b = append(b, c+'a'-'A')
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '/' || c == ':' || c >= 0x80:
			b = append(b, c)
		case len(b) > 0 && b[len(b)-1] != '-':
			b = append(b, '-')
		}
	}
	return string(b)
}

// canonicalProvider maps the names that PostHog's wrappers, OpenTelemetry
// (gen_ai.provider.name), the Vercel SDK ("openai.responses"), LiteLLM and
// OpenRouter's model ids use to one. An unknown provider stays what it is.
func canonicalProvider(s string) string {
	s = strings.Trim(nameKey(strings.TrimSpace(s)), "-")
	if c, ok := providerAliases[s]; ok {
		return c
	}
	for i := len(s) - 1; i > 0; i-- { // openai-responses: Vercel's "openai.responses"
		if s[i] != '-' {
			continue
		}
		if suffix := s[i+1:]; suffix == "chat" || suffix == "responses" || suffix == "messages" || suffix == "completion" || suffix == "embedding" {
			if c, ok := providerAliases[s[:i]]; ok {
				return c
			}
		}
		break
	}
	return s
}

var providerAliases = map[string]string{
	"openai": "openai", "oai": "openai", "openai-api": "openai", "open-ai": "openai",
	"anthropic": "anthropic", "claude": "anthropic", "anthropic-claude": "anthropic",
	"google": "google", "gemini": "google", "google-gemini": "google", "google-ai": "google", "google-ai-studio": "google",
	"google-generative-ai": "google", "gcp-gemini": "google", "gcp-gen-ai": "google",
	"vertex": "google", "vertex-ai": "google", "google-vertex": "google", "google-vertex-us": "google", "google-vertex-europe": "google",
	"google-vertex-global": "google", "google-vertex-anthropic": "google", "gcp-vertex-ai": "google",
	"amazon": "amazon-bedrock", "bedrock": "amazon-bedrock", "aws": "amazon-bedrock", "aws-bedrock": "amazon-bedrock",
	"amazon-bedrock": "amazon-bedrock", "bedrock-converse": "amazon-bedrock",
	"azure": "azure", "azure-openai": "azure", "azure-ai": "azure", "az-ai-openai": "azure", "azure-ai-openai": "azure", "azure-ai-inference": "azure",
	"cohere": "cohere", "cohere-ai": "cohere",
	"mistral": "mistral", "mistralai": "mistral", "mistral-ai": "mistral",
	"xai": "xai", "x-ai": "xai", "grok": "xai", "grok-fast": "xai", "xai-turbo": "xai",
	"deepseek": "deepseek", "deep-seek": "deepseek", "deepseek-ai": "deepseek",
	"fireworks": "fireworks", "fireworks-ai": "fireworks",
	"together": "together", "together-ai": "together", "togetherai": "together", "togethercomputer": "together",
	"groq": "groq", "groq-cloud": "groq",
	"perplexity": "perplexity", "perplexity-ai": "perplexity", "pplx": "perplexity",
	"cerebras": "cerebras",
	"moonshot": "moonshot", "moonshotai": "moonshot", "moonshot-ai": "moonshot", "kimi": "moonshot",
	"zai": "zai", "z-ai": "zai", "zhipuai": "zhipuai", "bigmodel": "zhipuai",
	"voyage": "voyage", "voyageai": "voyage", "voyage-ai": "voyage", "minimax": "minimax",
	"vercel-ai-gateway": "vercel",
	"cloudflare":        "cloudflare", "cloudflare-workers": "cloudflare", "cf-workers": "cloudflare",
	"openrouter": "openrouter", "or": "openrouter",
}

// hosts maps the host of the base URL to the provider, for SDKs that name
// themselves instead.
var hosts = map[string]string{
	"openrouter.ai": "openrouter", "api.groq.com": "groq", "api.mistral.ai": "mistral", "api.deepseek.com": "deepseek",
	"api.x.ai": "xai", "api.together.xyz": "together", "api.together.ai": "together", "api.fireworks.ai": "fireworks",
	"api.perplexity.ai": "perplexity", "api.cohere.com": "cohere", "api.cohere.ai": "cohere", "api.cerebras.ai": "cerebras",
	"api.moonshot.ai": "moonshot", "api.z.ai": "zai", "api.voyageai.com": "voyage", "api.minimax.io": "minimax", "open.bigmodel.cn": "zhipuai", "generativelanguage.googleapis.com": "google",
}

// providerOf is the event's provider, corrected where it names only the SDK.
func providerOf(e *event.Event) string {
	if e.BaseURL == "" || e.Provider != "" && e.Provider != "openai" && e.Provider != "anthropic" {
		return e.Provider
	}
	_, host, _ := strings.Cut(e.BaseURL, "://")
	if i := strings.IndexAny(host, "/:?"); i >= 0 {
		host = host[:i]
	}
	if p, ok := hosts[host]; ok {
		return p
	}
	return e.Provider
}

// isClaude is the contract's rule for who counts and bills as Anthropic does.
func isClaude(provider, model string) bool {
	return provider == "anthropic" || strings.Contains(model, "anthropic") || strings.HasPrefix(model, "claude")
}
