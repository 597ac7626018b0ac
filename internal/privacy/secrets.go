package privacy

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// A rule tells a key by its published prefix. The first dash or underscore of
// the prefix is where the scan stops for it.
type rule struct {
	prefix string
	least  int    // characters behind the prefix
	class  byte   // what those may be: wordy or alnum
	name   string // in the mark
	check  func(tok []byte) bool
}

const (
	alnum byte = 1 << iota // A–Z a–z 0–9
	under                  // _
	dash                   // -
	dot                    // .
	sign                   // + / = ~
)

const wordy = alnum | under | dash

// class says of every byte which of the sets above it belongs to.
var class = func() (t [256]byte) {
	for c := range t {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			t[c] = alnum
		}
	}
	t['_'], t['-'], t['.'] = under, dash, dot
	for _, c := range []byte("+/=~") {
		t[c] = sign
	}
	return t
}()

// rules are tried in order: the longer prefix first.
var rules = []rule{
	{"sk-ant-", 16, wordy, "anthropic_key", mixed},
	{"sk-or-", 16, wordy, "openrouter_key", mixed},
	{"sk-lf-", 16, wordy, "langfuse_key", mixed},
	{"sk-proj-", 16, wordy, "openai_key", mixed},
	{"sk-svcacct-", 16, wordy, "openai_key", mixed},
	{"sk-admin-", 16, wordy, "openai_key", mixed},
	{"sk-", 16, wordy, "openai_key", random}, // OpenAI's old form, DeepSeek, Moonshot, Qwen, litellm …
	{"csk-", 30, wordy, "cerebras_key", random},
	{"xai-", 20, wordy, "xai_key", random},
	{"pplx-", 20, wordy, "perplexity_key", random},
	{"nvapi-", 20, wordy, "nvidia_key", random},
	{"tvly-", 16, wordy, "tavily_key", random},
	{"glpat-", 16, wordy, "gitlab_token", mixed},
	{"glptt-", 16, wordy, "gitlab_token", mixed},
	{"gldt-", 16, wordy, "gitlab_token", mixed},
	{"glrt-", 16, wordy, "gitlab_token", mixed},
	{"xoxa-", 10, wordy, "slack_token", mixed},
	{"xoxb-", 10, wordy, "slack_token", mixed},
	{"xoxe-", 10, wordy, "slack_token", mixed},
	{"xoxp-", 10, wordy, "slack_token", mixed},
	{"xoxr-", 10, wordy, "slack_token", mixed},
	{"xoxs-", 10, wordy, "slack_token", mixed},
	{"xapp-", 20, wordy, "slack_token", mixed},
	{"GOCSPX-", 20, wordy, "google_secret", mixed},
	{"pypi-AgEI", 40, wordy, "pypi_token", mixed},

	{"github_pat_", 22, alnum | under, "github_token", mixed},
	{"ghp_", 30, alnum, "github_token", nil},
	{"gho_", 30, alnum, "github_token", nil},
	{"ghu_", 30, alnum, "github_token", nil},
	{"ghs_", 30, alnum, "github_token", nil},
	{"ghr_", 30, alnum, "github_token", nil},
	{"gsk_", 30, alnum, "groq_key", nil},
	{"hf_", 30, alnum, "huggingface_token", nil},
	{"npm_", 30, alnum, "npm_token", nil},
	{"r8_", 30, alnum, "replicate_token", nil},
	{"fw_", 20, alnum, "fireworks_key", random},
	{"tgp_v1_", 30, wordy, "together_key", random},
	{"lsv2_pt_", 30, alnum | under, "langsmith_key", random},
	{"lsv2_sk_", 30, alnum | under, "langsmith_key", random},
	{"dop_v1_", 40, alnum, "digitalocean_token", nil},
	{"shpat_", 30, alnum, "shopify_token", nil},
	{"shpss_", 30, alnum, "shopify_token", nil},
	{"phx_", 16, wordy, "posthog_key", random},
	{"phs_", 16, wordy, "posthog_key", random},
	{"pha_", 16, wordy, "posthog_key", random},
	{"phr_", 16, wordy, "posthog_key", random},
	{"hr_", 16, wordy, "hedgerow_key", random},
	{"sk_live_", 16, alnum, "stripe_key", nil},
	{"sk_test_", 16, alnum, "stripe_key", nil},
	{"rk_live_", 16, alnum, "stripe_key", nil},
	{"rk_test_", 16, alnum, "stripe_key", nil},
	{"whsec_", 16, alnum | sign, "webhook_secret", nil},
	{"sk_", 40, alnum, "elevenlabs_key", nil},
}

// dashRules and underscoreRules hold the rules by the byte before the separator.
var dashRules, underscoreRules = index('-'), index('_')

func index(sep byte) (t [256][]indexed) {
	for _, r := range rules {
		at := strings.IndexAny(r.prefix, "-_")
		if r.prefix[at] == sep {
			before := r.prefix[at-1]
			t[before] = append(t[before], indexed{r, at})
		}
	}
	return t
}

type indexed struct {
	rule
	at int // index of the separator in the prefix
}

// longestKey bounds how much of a token is looked at to judge it, so that a
// document made of prefixes is still read in linear time.
const longestKey = 256

func (f *finder) prefixed(i int, table [256][]indexed) (match, bool) {
	if i == 0 {
		return match{}, false
	}
	for _, r := range table[f.b[i-1]] {
		from := i - r.at
		tail := from + len(r.prefix)
		if !f.starts(from) || tail > len(f.b) || string(f.b[from:tail]) != r.prefix {
			continue
		}
		near := f.span(tail, r.class, longestKey)
		if near-tail < r.least || r.check != nil && !r.check(f.b[tail:near]) {
			continue
		}
		return match{from, f.span(near, r.class, len(f.b)), mark(r.name)}, true
	}
	return match{}, false
}

func mark(name string) string { return "[secret:" + name + "]" }

// span returns the end of the run of bytes of the class that begins at from, or
// from+most if it is longer.
func (f *finder) span(from int, set byte, most int) int {
	end := min(len(f.b), from+most)
	i := from
	for i < end && class[f.b[i]]&set != 0 {
		i++
	}
	return i
}

// starts reports whether a word can start at from: nothing of a match or an
// escape lies behind it, and no letter or digit stands directly before.
func (f *finder) starts(from int) bool {
	switch {
	case from < f.done || from < f.esc || from < 0:
		return false
	case from == 0 || from == f.done || from == f.esc:
		return true
	case class[f.b[from-1]]&(alnum|under) == 0:
		return true
	}
	// %20sk-…: the end of an escape of a URL.
	return from-3 >= f.done && f.b[from-3] == '%' && isHex(f.b[from-2]) && isHex(f.b[from-1])
}

// at returns the byte at k, or 0 where there is none or it has been replaced.
func (f *finder) at(k int) byte {
	if k < f.done || k >= len(f.b) {
		return 0
	}
	return f.b[k]
}

// fold reports whether the bytes at from are the lower-case word, in any case.
func (f *finder) fold(from int, word string) bool {
	if from < f.done || from < 0 || from+len(word) > len(f.b) {
		return false
	}
	for k := range len(word) {
		if lower(f.b[from+k]) != word[k] {
			return false
		}
	}
	return true
}

// random tells a generated key from words joined by dashes: it has a long
// stretch without a dash, or many digits.
func random(tok []byte) bool {
	longest, run, digits := 0, 0, 0
	for _, c := range tok {
		if c >= '0' && c <= '9' {
			digits++
		}
		if class[c] == alnum {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	return longest >= 16 && digits > 0 || longest >= 24 || len(tok) >= 20 && digits >= 6
}

// mixed is enough behind a prefix that no word has: a digit, or one long run.
func mixed(tok []byte) bool {
	return bytes.ContainsAny(tok, "0123456789") || random(tok)
}

// public tells keys that are made to be seen.
func public(tok []byte) bool {
	return bytes.HasPrefix(tok, []byte("phc_")) || bytes.HasPrefix(tok, []byte("pk_")) || bytes.HasPrefix(tok, []byte("pk-"))
}

// privateKey finds a PEM block from its first dash, with or without its end.
func (f *finder) privateKey(i int) (match, bool) {
	const begin, end = "-----BEGIN ", "-----END "
	b := f.b
	if i < f.done || !bytes.HasPrefix(b[i:], []byte(begin)) {
		return match{}, false
	}
	head := b[i+len(begin) : min(len(b), i+len(begin)+64)]
	close := bytes.Index(head, []byte("-----"))
	if close < 0 || !bytes.Contains(head[:close], []byte("PRIVATE KEY")) || bytes.ContainsAny(head[:close], "\"\\\n") {
		return match{}, false
	}
	body := i + len(begin) + close + 5
	// With an end, all between is the key. Without one, in a text that was cut
	// off, the key ends where something that cannot be base64 begins.
	strict, p := 0, body
	for p < len(b) {
		c := b[p]
		if c == '-' && bytes.HasPrefix(b[p:], []byte(end)) {
			rest := b[p+len(end) : min(len(b), p+len(end)+64)]
			if k := bytes.Index(rest, []byte("-----")); k >= 0 && !bytes.ContainsAny(rest[:k], "\"\\\n") {
				return match{i, p + len(end) + k + 5, mark("private_key")}, true
			}
			break
		}
		if c == '-' && bytes.HasPrefix(b[p:], []byte(begin)) {
			break
		}
		if c == '\\' {
			q := p
			for q < len(b) && b[q] == '\\' {
				q++
			}
			if q == len(b) || b[q] != 'n' && b[q] != 'r' && b[q] != 't' {
				break
			}
			p = q + 1
			continue
		}
		switch {
		case class[c]&(alnum|sign) != 0, c == '\n', c == '\r':
		case c == ' ', c == '\t', c == ':', c == ',', c == '-', c == '.', c == '_':
			if strict == 0 {
				strict = p
			}
		default:
			c = 0
		}
		if c == 0 {
			break
		}
		p++
	}
	if strict == 0 {
		strict = p
	}
	if strict-body < 40 {
		return match{}, false
	}
	return match{i, strict, mark("private_key")}, true
}

// googleKey finds AIza… from its z.
func (f *finder) googleKey(i int) (match, bool) {
	from := i - 2
	if from < 0 || !f.starts(from) || !bytes.HasPrefix(f.b[from:], []byte("AIza")) {
		return match{}, false
	}
	end := f.span(from+4, wordy, longestKey)
	if end-from < 34 || end-from > 60 {
		return match{}, false
	}
	return match{from, end, mark("google_key")}, true
}

// awsKeyID finds AKIA… from its K and ASIA… from its S.
func (f *finder) awsKeyID(i int, at byte) (match, bool) {
	word := "AKIA"
	if at == 'S' {
		word = "ASIA"
	}
	from := i - 1
	if from < 0 || !f.starts(from) || !bytes.HasPrefix(f.b[from:], []byte(word)) {
		return match{}, false
	}
	end := f.span(from, alnum|under, 21)
	if end-from != 20 || bytes.ContainsFunc(f.b[from:end], func(r rune) bool { return r == '_' || r >= 'a' && r <= 'z' }) {
		return match{}, false
	}
	return match{from, end, mark("aws_key_id")}, true
}

// sendgrid finds SG.….… from its S.
func (f *finder) sendgrid(i int) (match, bool) {
	if f.at(i+1) != 'G' || f.at(i+2) != '.' || !f.starts(i) {
		return match{}, false
	}
	mid := f.span(i+3, wordy, longestKey)
	if mid-i-3 < 16 || f.at(mid) != '.' {
		return match{}, false
	}
	end := f.span(mid+1, wordy, longestKey)
	if end-mid-1 < 16 {
		return match{}, false
	}
	return match{i, end, mark("sendgrid_key")}, true
}

// webToken finds a JSON web token from its J. A header, eyJ…, alone is base64
// like any other; three parts, or five of an encrypted one, are a token.
func (f *finder) webToken(i int) (match, bool) {
	from := i - 2
	if from < 0 || !f.starts(from) || f.at(from-1) == '-' || f.b[from] != 'e' || f.b[from+1] != 'y' {
		return match{}, false
	}
	end := f.span(from, wordy, len(f.b))
	if end-from < 13 {
		return match{}, false
	}
	for part := 1; part < 5; part++ {
		if f.at(end) != '.' {
			if part < 3 {
				return match{}, false
			}
			break
		}
		next := f.span(end+1, wordy, len(f.b))
		switch n := next - end - 1; {
		case part == 1 && n < 4 && !(n == 0 && f.at(next) == '.'):
			return match{}, false
		case part == 2 && n < 4:
			return match{}, false
		case part > 2 && n == 0:
			return match{from, end, mark("web_token")}, true
		}
		end = next
	}
	return match{from, end, mark("web_token")}, true
}

// bearer finds "Bearer …" and "Basic …" from their B, where what follows is
// plainly a credential. Behind the name Authorization, less will do: see
// authorization.
func (f *finder) bearer(i int) (match, bool) {
	var from int
	switch {
	case f.fold(i, "bearer ") && f.starts(i):
		from = i + 7
	case f.fold(i, "basic ") && f.starts(i):
		from = i + 6
	default:
		return match{}, false
	}
	return f.credential(from, lower(f.b[i+1]) == 'a', false)
}

func (f *finder) credential(from int, basic, sure bool) (match, bool) {
	for f.at(from) == ' ' {
		from++
	}
	near := f.span(from, wordy|dot|sign, 4*longestKey)
	tok := f.b[from:near]
	switch {
	case public(tok):
		return match{}, false
	case basic && !basicPair(tok):
		return match{}, false
	case !basic && sure && (len(tok) < 8 || len(tok) < 20 && !bytes.ContainsAny(tok, "0123456789")):
		return match{}, false
	case !basic && !sure && (len(tok) < 16 || !random(tok)):
		return match{}, false
	}
	name := "bearer_token"
	if basic {
		name = "basic_auth"
	}
	if f.json && !f.inString(from) {
		return match{}, false // a number: not a credential, and no place for a mark
	}
	end := f.span(near, wordy|dot|sign, len(f.b))
	for end > from && f.b[end-1] == '.' {
		end-- // the sentence's, not the token's
	}
	return match{from, end, mark(name)}, true
}

// basicPair reports whether tok is the base64 of user:password.
func basicPair(tok []byte) bool {
	if len(tok) < 4 || len(tok) > 1024 {
		return false
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(string(tok), "=."))
	if err != nil || bytes.IndexByte(raw, ':') < 0 {
		return false
	}
	return !bytes.ContainsFunc(raw, func(r rune) bool { return r < ' ' || r == 0xFFFD })
}

// authorization finds the value of an Authorization header, as a header line or
// as a member of a JSON object, from the z of its name.
func (f *finder) authorization(i int) (match, bool) {
	from := i - 7
	if !f.fold(from, "authorization") {
		return match{}, false
	}
	at, ok := f.value(from + len("authorization"))
	if !ok {
		return match{}, false
	}
	for _, scheme := range []string{"bearer ", "basic ", "token ", "apikey ", "key "} {
		if f.fold(at, scheme) {
			return f.credential(at+len(scheme), scheme == "basic ", true)
		}
	}
	return f.credential(at, false, false)
}

// names are what a secret is assigned to, by the byte at which the scan stops:
// a dash or underscore, or the capital letter of camel case.
var names = []struct {
	before, after string // around the separator or from it on, in lower case
	name          string
}{
	{"api", "key", "api_key"},
	{"client", "secret", "client_secret"},
	{"access", "token", "access_token"},
	{"refresh", "token", "refresh_token"},
	{"auth", "token", "auth_token"},
	{"secret", "access", "aws_secret_key"}, // _access_key, AccessKey: see assigned
	{"secretaccess", "key", "aws_secret_key"},
	{"secret_access", "key", "aws_secret_key"},
	{"secret", "key", "secret_key"},
}

// assigned finds api_key = "…", "apiKey": "…", AWS_SECRET_ACCESS_KEY=… and
// their like, where the value looks generated.
func (f *finder) assigned(i int) (match, bool) {
	next := i // where the second word begins
	if c := f.b[i]; c == '-' || c == '_' {
		next++
	}
	for _, n := range names {
		if !f.fold(next, n.after) || !f.fold(i-len(n.before), n.before) {
			continue
		}
		end := next + len(n.after)
		if n.after == "access" {
			if c := f.at(end); c == '_' || c == '-' {
				end++
			}
			if !f.fold(end, "key") {
				continue
			}
			end += 3
		}
		at, ok := f.value(end)
		if !ok {
			return match{}, false
		}
		stop := f.span(at, wordy|dot|sign, longestKey)
		tok := f.b[at:stop]
		if n.name == "aws_secret_key" {
			ok = len(tok) >= 30
		} else {
			ok = len(tok) >= 16 && random(tok) && !public(tok)
		}
		if !ok || f.json && !f.inString(at) {
			return match{}, false
		}
		return match{at, f.span(stop, wordy|dot|sign, len(f.b)), mark(n.name)}, true
	}
	return match{}, false
}

// value skips from the end of a name to the value that is assigned to it, over
// quotes, however often escaped, and one of : = =>.
func (f *finder) value(i int) (int, bool) {
	end := f.quote(i)
	if end > i && f.at(end) == ']' {
		end++ // environ["API_KEY"] = …
	}
	i = f.blank(end)
	switch f.at(i) {
	case ':':
		i++
	case '=':
		i++
		if f.at(i) == '>' {
			i++
		}
	default:
		return 0, false
	}
	i = f.blank(i)
	if c := f.at(i); c == '(' || c == '[' {
		i++
	}
	return f.quote(i), true
}

func (f *finder) blank(i int) int {
	for most := i + 8; i < most && (f.at(i) == ' ' || f.at(i) == '\t'); i++ {
	}
	return i
}

// quote returns the position behind a quote at i, with the backslashes that
// escape it, or i where there is none.
func (f *finder) quote(i int) int {
	j := i
	for j < i+16 && f.at(j) == '\\' {
		j++
	}
	if c := f.at(j); c == '"' || c == '\'' {
		return j + 1
	}
	return i
}

// urlPassword finds the password of scheme://user:password@host from its @.
func (f *finder) urlPassword(i int) (match, bool) {
	const far = 256
	colon := -1
	k := i - 1
	for ; k >= f.done && k >= f.esc && k > i-far; k-- {
		switch c := f.b[k]; {
		case c == ':':
			colon = k
		case c == '/':
			if k < 2 || f.b[k-1] != '/' || f.b[k-2] != ':' || colon < 0 {
				return match{}, false
			}
			end := i
			for j := i; j < len(f.b) && j < i+far; j++ {
				c := f.b[j]
				if c == '@' {
					end = j // the password itself has one
				}
				if c <= ' ' || strings.IndexByte("/?#\"'\\<>,;)", c) >= 0 {
					break
				}
			}
			if pass := f.b[colon+1 : end]; len(pass) == 0 || string(pass) == mark("url_password") {
				return match{}, false
			}
			return match{colon + 1, end, mark("url_password")}, true
		case c <= ' ', c == '"', c == '\'', c == '<', c == '>', c == '\\', c == '@', c == '?', c == '#':
			return match{}, false
		}
	}
	return match{}, false
}

// email finds an address from its @.
func (f *finder) email(i int) (match, bool) {
	b := f.b
	local := func(c byte) bool {
		return class[c]&wordy != 0 || c == '.' || c == '%' || c == '+'
	}
	from := i
	for from > f.done && from > f.esc && i-from < 64 && local(b[from-1]) {
		from--
	}
	for from < i && b[from] == '.' {
		from++
	}
	end := i + 1
	lastDot := 0
	for end < len(b) && end-i < 254 && class[b[end]]&(alnum|dash|dot) != 0 {
		if b[end] == '.' {
			if b[end-1] == '.' || b[end-1] == '@' {
				break
			}
			lastDot = end
		}
		end++
	}
	if end > i+1 && b[end-1] == '.' {
		end-- // the sentence's
		lastDot = i + 1 + bytes.LastIndexByte(b[i+1:end], '.')
	}
	if from == i || lastDot <= i || end-lastDot < 3 || !letters(b[lastDot+1:end]) {
		return match{}, false
	}
	return match{from, end, "[email]"}, true
}

func letters(b []byte) bool {
	for _, c := range b {
		if c = lower(c); c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func isHex(c byte) bool {
	c = lower(c)
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
}

func isHex4(h []byte) bool {
	return len(h) == 4 && isHex(h[0]) && isHex(h[1]) && isHex(h[2]) && isHex(h[3])
}

func unhex(c byte) byte {
	if c = lower(c); c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}
