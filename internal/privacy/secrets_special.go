package privacy

import (
	"bytes"
	"encoding/base64"
	"strings"
)

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
	// With an end, everything in between is the key. Without one, in a
	// truncated text, the key ends at the first character that cannot be
	// base64.
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
		if next := f.joint(p); next > p {
			p = next
			continue
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

// webToken finds a JSON Web Token from its start, eyJ. A header, eyJ…, alone
// may be any base64; three parts, or five of an encrypted one, are a token.
func (f *finder) webToken(i int) (match, bool) {
	from := i
	if f.at(from-1) == '-' || f.at(from+2) != 'J' {
		return match{}, false
	}
	end := f.part(from)
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
		next := f.part(end + 1)
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

// part returns the end of a part of a web token, over line breaks.
func (f *finder) part(from int) int { return f.more(from, wordy) }

// bearer finds "Bearer …" and "Basic …" from their B, if what follows is
// clearly a credential. After the name Authorization the conditions are weaker:
// see authorization.
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
		return match{}, false // a number: neither a credential nor replaceable
	}
	end := f.more(near, wordy|dot|sign)
	for end > from && f.b[end-1] == '.' {
		end-- // the sentence's full stop, not the token's
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
		end-- // the sentence's full stop
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

// shaped finds secrets that are known by their form but not by their prefix,
// from the word that begins at i and ends at end.
func (f *finder) shaped(i, end int) (match, bool) {
	b, n := f.b, end-i
	switch {
	case n == 14 && f.has(end, ".atlasv1."):
		if to := f.span(end+9, wordy|equal, longestKey); to-end >= 50 {
			return match{i, f.more(to, wordy|equal), mark("terraform_token")}, true
		}
	case n >= 8 && n <= 12 && f.at(end) == ':' && f.has(end+1, "AA") && class[b[i]]&digits != 0 && f.span(i, digits, 12) == end:
		if to := f.span(end+1, wordy, 48); to-end >= 33 && to-end <= 40 {
			return match{i, to, mark("telegram_token")}, true
		}
	case n >= 15 && n <= 17 && f.at(end) == '|' && f.span(i, digits, 17) == end:
		if to := f.span(end+1, wordy, 48); to-end >= 27 && to-end <= 41 && mixed(b[end+1:to]) {
			return match{i, to, mark("facebook_token")}, true
		}
	}
	if n < 23 {
		return match{}, false
	}
	switch c := b[i]; {
	case n <= 28 && (c == 'M' || c == 'N' || c == 'O') && f.at(end) == '.':
		// Discord: the bot's id in base64, a time, a signature.
		if mid := f.span(end+1, wordy, 8); mid-end == 7 && f.at(mid) == '.' {
			if to := f.span(mid+1, wordy, 64); to-mid >= 27 && scattered(b[i:end]) {
				return match{i, to, mark("discord_token")}, true
			}
		}
	case n == 32 && f.has(end, "-us") && f.span(i, anyHex, 32) == end && isDigit(f.at(end+3)):
		return match{i, f.span(end+3, digits, 2), mark("mailchimp_key")}, true
	case n == 40 && f.has(end-4, "NRAL") && f.span(i, anyHex, 36) == i+36:
		return match{i, end, mark("newrelic_key")}, true
	case n == 40 && f.has(end-4, "_mmk") && b[i+6] == '_':
		return match{i, end, mark("maxmind_key")}, true
	case n == 50 && f.has(i+10, "msh") && f.has(i+35, "jsn"):
		return match{i, end, mark("rapidapi_key")}, true
	case n == 84 && f.has(i+52, "JQQJ99"):
		return match{i, end, mark("azure_key")}, true
	}
	return match{}, false
}

// entraSecret finds the secret of a Microsoft Entra application from its ~: three
// characters, a digit, Q~ and 31 to 34 more.
func (f *finder) entraSecret(i int) (match, bool) {
	from := i - 5
	if from < f.done || from < f.esc || f.b[i-1] != 'Q' || !isDigit(f.b[i-2]) || from > 0 && from > f.done && from > f.esc && class[f.b[from-1]]&(wordy|dot|tilde) != 0 {
		return match{}, false
	}
	if f.span(from, letter|dot|dash|tilde, 3) != from+3 {
		return match{}, false
	}
	end := f.span(i+1, wordy|dot|tilde, 64)
	if n := end - i - 1; n < 31 || n > 36 || !mixed(f.b[i+1:end]) {
		return match{}, false
	}
	return match{from, end, mark("entra_secret")}, true
}

// urlPassword finds the password of scheme://user:password@host from its @. The
// password may contain slashes, unless what precedes the first is a port.
func (f *finder) urlPassword(i int) (match, bool) {
	const far = 256
	colon, first := -1, -1
	k := i - 1
	for ; k >= f.done && k >= f.esc && k > i-far; k-- {
		switch c := f.b[k]; {
		case c == ':':
			colon = k
		case c == '/' && k >= 2 && f.b[k-1] == '/' && f.b[k-2] == ':':
			if first >= 0 && colon > first {
				return match{}, false // the colon is in a path
			}
			if first >= 0 && f.span(colon+1, digits, far) == first && first-colon <= 6 {
				return match{}, false // a port
			}
			return f.urlPasswordAt(colon, i)
		case c == '/':
			first = k
		case c <= ' ', c == '"', c == '\'', c == '<', c == '>', c == '\\', c == '@', c == '?', c == '#', c == ',' && first >= 0, c == '(' && first >= 0:
			return match{}, false
		}
	}
	return match{}, false
}

func (f *finder) urlPasswordAt(colon, i int) (match, bool) {
	const far = 256
	if colon < 0 {
		return match{}, false
	}
	end := i
	for j := i; j < len(f.b) && j < i+far; j++ {
		c := f.b[j]
		if c == '@' {
			end = j // the password itself contains one
		}
		if c <= ' ' || strings.IndexByte("/?#\"'\\<>,;)", c) >= 0 {
			break
		}
	}
	pass := f.b[colon+1 : end]
	if len(pass) == 0 || reference(pass) || masked(pass) {
		return match{}, false
	}
	return match{colon + 1, end, mark("url_password")}, true
}

// option finds the value of a command-line option: --password X, and -u
// user:password of curl. i is the (first) dash.
func (f *finder) option(i int) (match, bool) {
	if i > f.done && i > f.esc && strings.IndexByte(" \t\n\"'`[(,", f.b[i-1]) < 0 {
		return match{}, false
	}
	name := i + 1
	if f.at(name) == '-' {
		name++
	}
	end := f.span(name, wordy, 40)
	if end == name {
		return match{}, false
	}
	at := end
	switch c := f.at(at); {
	case c == ' ' || c == '\t':
		at = f.blank(at)
	case c == '=':
		at++
	default:
		// ["--password", "hunter2"]
		q, level := f.quoteAhead(at)
		if q == 0 {
			return match{}, false
		}
		if at = f.blank(at + level + 1); f.at(at) != ',' {
			return match{}, false
		}
		at = f.blank(at + 1)
		if again, l := f.quoteAhead(at); again != q || l != level {
			return match{}, false
		}
	}
	user := string(f.b[name:end])
	if user == "u" || user == "user" || user == "proxy-user" || user == "U" && name == i+1 {
		return f.userOption(i, at)
	}
	if name != i+2 || f.at(end) == '=' {
		return match{}, false // with =, see assigned
	}
	kind := kindOf(f.b[name:end])
	if kind.class == nameOther {
		return match{}, false
	}
	return f.assignedValue(at, kind, value{})
}

// userOption finds the password of -u user:password after a command that uses
// this option so.
func (f *finder) userOption(i, at int) (match, bool) {
	before := f.b[max(f.done, i-256):i]
	if !bytes.Contains(before, []byte("curl")) && !bytes.Contains(before, []byte("wget")) && !bytes.Contains(before, []byte("http")) {
		return match{}, false
	}
	v := f.valueAt(at)
	colon := bytes.IndexByte(f.b[v.from:v.end], ':')
	if colon < 0 {
		return match{}, false
	}
	from := v.from + colon + 1
	if v.end-from < 3 || reference(f.b[from:v.end]) || masked(f.b[from:v.end]) || bytes.HasPrefix(f.b[from:v.end], []byte("//")) || f.json && !f.inString(from) {
		return match{}, false
	}
	return match{from, v.end, mark("password")}, true
}
