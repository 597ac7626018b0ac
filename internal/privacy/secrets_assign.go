package privacy

import (
	"bytes"
	"strings"
)

// What a name implies about the value that is assigned to it.
type nameClass byte

const (
	nameOther    nameClass = iota
	namePassword           // anything but a placeholder
	nameSecret             // values that look generated
	nameLong               // values that look generated and are long: a signature
	nameVendor             // values of the form of the vendor's secrets
	nameHeader             // Authorization: a scheme and a credential
	nameValue              // the name precedes: name: X, value: …
	nameType               // the type of a variable: the name precedes
)

type nameKind struct {
	class  nameClass
	mark   string
	vendor []*format
	env    bool // all capitals, like environment variables
}

// suffixes of names in lower case, without separators, and their marks.
var suffixes = []struct {
	end   string
	class nameClass
	mark  string
}{
	{"password", namePassword, "password"},
	{"passwd", namePassword, "password"},
	{"passwort", namePassword, "password"},
	{"passphrase", namePassword, "password"},
	{"pwd", namePassword, "password"},
	{"secretaccesskey", nameSecret, "aws_secret_key"},
	{"apikey", nameSecret, "api_key"},
	{"clientsecret", nameSecret, "client_secret"},
	{"accesstoken", nameSecret, "access_token"},
	{"refreshtoken", nameSecret, "refresh_token"},
	{"authtoken", nameSecret, "auth_token"},
	{"secretkey", nameSecret, "secret_key"},
	{"secretkeybase", nameSecret, "secret_key"},
	{"secret", nameSecret, "secret"},
	{"token", nameSecret, "token"},
	{"accesskey", nameSecret, "access_key"},
	{"accountkey", nameSecret, "account_key"},
	{"adminkey", nameSecret, "api_key"},
	{"appkey", nameSecret, "api_key"},
	{"applicationkey", nameSecret, "api_key"},
	{"authkey", nameSecret, "auth_key"},
	{"encryptionkey", nameSecret, "encryption_key"},
	{"licensekey", nameSecret, "license_key"},
	{"masterkey", nameSecret, "master_key"},
	{"privatekey", nameSecret, "private_key"},
	{"sdkkey", nameSecret, "api_key"},
	{"servicekey", nameSecret, "api_key"},
	{"signingkey", nameSecret, "signing_key"},
	{"storagekey", nameSecret, "account_key"},
	{"subscriptionkey", nameSecret, "api_key"},
	{"writekey", nameSecret, "api_key"},
	{"credential", nameSecret, "credential"},
	{"credentials", nameSecret, "credential"},
	{"creds", nameSecret, "credential"},
	{"authorization", nameHeader, ""},
	{"amzsignature", nameLong, "signature"},
	{"googsignature", nameLong, "signature"},
}

// suffixesBy has the indexes of suffixes by their last byte.
var suffixesBy = func() (t [256][]int) {
	for k, s := range suffixes {
		last := s.end[len(s.end)-1]
		t[last] = append(t[last], k)
	}
	return t
}()

// harmless are endings of names, without separators, whose values are not
// secrets although they end like one: positions in a list, words of a model's
// vocabulary.
var harmless = []string{
	"pagetoken", "nexttoken", "continuationtoken", "cursortoken", "synctoken", "starttoken", "endtoken", "eostoken", "bostoken", "padtoken",
	"unktoken", "septoken", "clstoken", "masktoken", "cancellationtoken", "perprompttoken", "publickey", "publicapikey", "nosecret",
}

// kindOf returns what a name implies about its value.
func kindOf(name []byte) nameKind {
	if len(name) < 2 {
		return nameKind{}
	}
	var buf [64]byte
	flat := buf[:0]
	last, env := 0, true // start of the last word of flat
	for i, c := range name {
		cl := class[c]
		switch {
		case cl&alnum == 0:
			last = len(flat)
			continue
		case cl&upper != 0 && i > 0 && class[name[i-1]]&low != 0:
			last = len(flat)
		}
		if cl&low != 0 {
			env = false
		}
		if len(flat) < cap(flat) {
			flat = append(flat, lower(c))
		}
	}
	for len(flat) > last && isDigit(flat[len(flat)-1]) {
		flat = flat[:len(flat)-1] // PASSWORD2
	}
	if len(flat) < 2 {
		return nameKind{}
	}
	end := flat[last:]
	if len(end) < 5 && last > 0 && len(name) > 12 && bytes.ContainsAny(name, "0123456789") && scattered(name) {
		return nameKind{} // letters at the end of an id
	}
	switch string(end) {
	case "pass", "pw", "passcode":
		return nameKind{class: namePassword, mark: "password", env: env}
	case "auth", "pat":
		return nameKind{class: nameSecret, mark: "auth_token", env: env}
	case "sig":
		return nameKind{class: nameLong, mark: "signature", env: env}
	case "value", "val":
		if last == 0 {
			return nameKind{class: nameValue}
		}
	case "str", "string", "text":
		if last == 0 {
			return nameKind{class: nameType}
		}
	case "id", "ids", "hash", "sha", "digest", "checksum", "version", "commit", "trace", "span", "url", "uri", "name", "model", "path", "file", "region", "email", "user", "host", "type":
		return nameKind{}
	}
	for _, k := range suffixesBy[flat[len(flat)-1]] {
		s := &suffixes[k]
		if !bytes.HasSuffix(flat, []byte(s.end)) {
			continue
		}
		for _, h := range harmless {
			if bytes.HasSuffix(flat, []byte(h)) {
				return nameKind{}
			}
		}
		return nameKind{class: s.class, mark: s.mark, env: env}
	}
	if list, vendor := vendorOf(name); list != nil {
		return nameKind{class: nameVendor, mark: vendor, vendor: list, env: env}
	}
	if env && string(end) == "key" && last > 0 {
		switch string(flat[:last]) {
		case "public", "primary", "foreign", "cache", "sort", "partition", "idempotency", "hash", "range", "shard", "object", "registry":
			return nameKind{}
		}
		return nameKind{class: nameLong, mark: "api_key", env: env}
	}
	return nameKind{}
}

// assigned finds the value assigned to a name of secrets, from the assignment
// operator: DB_PASSWORD=…, "apiKey": "…", key => …, <password>….
func (f *finder) assigned(i int) (match, bool) {
	p := i + 1
	next, before := f.at(p), f.at(i-1)
	switch f.b[i] {
	case '=':
		if next == '=' || strings.IndexByte("=!<>:~", before) >= 0 {
			return match{}, false
		}
		if next == '>' {
			p++
		}
	case ':':
		if next == ':' || before == ':' || next == '/' && f.at(p+1) == '/' {
			return match{}, false
		}
		if next == '=' {
			p++
		}
	}
	if f.marked(p) {
		return match{}, false // already scrubbed
	}
	from, end := f.nameBefore(i)
	if end-from < 2 || from > f.done && class[f.b[from-1]]&slash != 0 && f.b[i] == '=' {
		return match{}, false // no name, or the end of base64
	}
	if f.b[i] == '>' && (from == f.done || f.b[from-1] != '<' && f.b[from-1] != ':') {
		return match{}, false
	}
	kind := kindOf(f.b[from:end])
	if kind.class == nameType || kind.class == nameValue {
		if from, end = f.nameFurther(from, kind.class == nameValue); end-from < 2 {
			return match{}, false
		}
		kind = kindOf(f.b[from:end])
	}
	if kind.class == nameOther {
		return match{}, false
	}
	at := f.blank(p)
	tight := at == i+1
	if c := f.at(at); f.b[i] == ':' && (c == '|' || c == '>') {
		// A YAML block: the value is on the next line.
		q := at + 1
		if c := f.at(q); c == '-' || c == '+' {
			q++
		}
		if eol := f.eol(q); eol > q {
			at = f.indent(eol)
		}
	}
	if c := f.at(at); c == '(' || c == '[' {
		if q, _ := f.quoteAhead(at + 1); q != 0 {
			at++
		}
	}
	if kind.class == nameHeader {
		if q, level := f.quoteAhead(at); q != 0 {
			at += level + 1
		}
		for _, scheme := range []string{"bearer ", "basic ", "token ", "apikey ", "key "} {
			if f.fold(at, scheme) {
				return f.credential(at+len(scheme), scheme == "basic ", true)
			}
		}
		return f.credential(at, false, false)
	}
	return f.assignedValue(at, kind, value{tight: tight, equal: f.b[i] == '=', xml: f.b[i] == '>'})
}

// marked reports whether the value at p is a mark.
func (f *finder) marked(p int) bool {
	p = f.blank(p)
	if quote, level := f.quoteAhead(p); quote != 0 {
		p += level + 1
	}
	return f.at(p) == '[' && f.has(p, "[secret:")
}

// nameBefore returns the name that precedes position i, skipping blanks, quotes
// and index brackets.
func (f *finder) nameBefore(i int) (from, end int) {
	k := i
	for n := 0; n < 4 && k > f.done && (f.b[k-1] == ' ' || f.b[k-1] == '\t'); n++ {
		k--
	}
	if k > f.done && f.b[k-1] == ']' {
		k--
	}
	return f.nameEnding(k)
}

func (f *finder) nameEnding(k int) (from, end int) {
	b := f.b
	if k > f.done && (b[k-1] == '"' || b[k-1] == '\'' || b[k-1] == '`') {
		k--
		for k > f.done && b[k-1] == '\\' {
			k--
		}
	}
	end = k
	for k > f.done && end-k < 64 && class[b[k-1]]&(wordy|dot) != 0 {
		k--
	}
	if k > f.done && k < end && b[k-1] == '\\' && (b[k] == 'n' || b[k] == 'r' || b[k] == 't') {
		k++ // of an escape
	}
	return k, end
}

// nameFurther returns the name before the word at from: before the type of a
// variable (password: str = …), or, with named, the one in name: X, value: ….
func (f *finder) nameFurther(from int, named bool) (int, int) {
	b := f.b
	k := from
	if !named {
		for n := 0; n < 4 && k > f.done && (b[k-1] == ' ' || b[k-1] == ':'); n++ {
			k--
		}
		if k == from {
			return 0, 0
		}
		return f.nameEnding(k)
	}
	skip := func(set string, most int) {
		for n := 0; n < most && k > f.done; n++ {
			c := b[k-1]
			if strings.IndexByte(set, c) >= 0 {
				k--
			} else if (c == 'n' || c == 'r' || c == 't') && k-2 >= f.done && b[k-2] == '\\' {
				k -= 2
			} else {
				break
			}
		}
	}
	skip(" \t\r\n,\"'\\", 64)
	end := k
	for k > f.done && end-k < 64 && class[b[k-1]]&(wordy|dot) != 0 {
		k--
	}
	at := k
	skip(" \"'\\", 8)
	if k <= f.done || b[k-1] != ':' && b[k-1] != '=' {
		return 0, 0
	}
	k--
	skip(" \"'\\", 8)
	if f.fold(k-4, "name") || f.fold(k-3, "key") {
		return at, end
	}
	return 0, 0
}

// value is an assigned value: its position, and its bytes without joints.
type value struct {
	tight bool // without blanks around =
	equal bool // assigned by =
	xml   bool // the text of an element

	from, end int
	quote     byte
	n         int
	buf       [longestKey]byte
}

func (v *value) text() []byte { return v.buf[:v.n] }

func (v *value) keep(b []byte) { v.n += copy(v.buf[v.n:], b) }

// valueAt reads the value at a position.
func (f *finder) valueAt(at int) value {
	var v value
	f.read(&v, at, false)
	return v
}

// read reads the value at a position into v. A quoted value ends at the quote,
// any other at a blank or punctuation. With env, a value may contain more
// characters and ends with its line.
func (f *finder) read(v *value, at int, env bool) {
	quote, level := f.quoteAhead(at)
	v.quote = quote
	if quote != 0 {
		at += level + 1
	}
	v.from = at
	q := f.readRun(v, at, level, env)
	for joints := 0; joints < 64; joints++ {
		next := f.joint(q)
		if next == q {
			break
		}
		n := v.n
		end := f.readRun(v, next, level, env)
		tail := f.b[next:end]
		closed, _ := f.quoteAhead(q)
		sure := quote != 0 && closed == quote && f.at(next-1) == quote // "…" + "…"
		if end == next || !sure && !continues(tail) || !sure && (f.at(end) == '=' || f.at(end) == ':') {
			v.n = n
			break
		}
		q = end
	}
	v.end = q
}

// readRun reads the value up to its end or the next line break.
func (f *finder) readRun(v *value, at, level int, env bool) int {
	q := at
	for ; q < len(f.b) && q-at < 2*longestKey; q++ {
		c := f.b[q]
		if c <= ' ' {
			if v.quote != 0 && c == ' ' && v.n == 0 && q > at {
				continue
			}
			break
		}
		if c == '\\' {
			r := q
			for r < len(f.b) && f.b[r] == '\\' {
				r++
			}
			run := r - q
			esc := f.at(r)
			if v.quote != 0 && esc == v.quote && run > level && !(f.json && esc == '"' && run%2 == 0) {
				q = r // an escaped quote: part of the value
				continue
			}
			if esc == '"' || esc == '\'' || esc == '`' || esc == 'n' || esc == 'r' || esc == 't' || esc == 'u' || r == len(f.b) || v.quote == 0 {
				break
			}
			q = r
			continue
		}
		if v.quote != 0 {
			if c == v.quote || c == '"' && f.json {
				break
			}
			continue
		}
		if c == '"' || c == '\'' || c == '`' || c == '<' && v.xml {
			break
		}
		if env {
			continue
		}
		if strings.IndexByte(",;&<>)]}|", c) >= 0 {
			break
		}
		if c == '=' && class[f.at(q+1)]&alnum != 0 {
			break
		}
	}
	v.keep(f.b[at:q])
	return q
}

// assignedValue checks the value at a position by the rule of its name.
func (f *finder) assignedValue(at int, kind nameKind, v value) (match, bool) {
	switch f.at(at) {
	case 0, '\n', '\r', '{', '[', ',', ';':
		return match{}, false
	}
	f.read(&v, at, kind.class == namePassword && kind.env && v.tight && v.equal && f.lineStart(at))
	if v.n < 4 || v.xml && f.at(v.end) != '<' {
		return match{}, false
	}
	ok := false
	switch tok := v.text(); kind.class {
	case namePassword:
		ok = f.passwordLike(&v, kind)
	case nameSecret:
		ok = generated(tok) && !public(tok) && !filler(tok) && (v.quote != 0 || !f.code(&v, kind))
	case nameLong:
		ok = len(tok) >= 20 && generated(tok) && !public(tok) && !filler(tok) && bytes.ContainsAny(tok, "0123456789")
	case nameVendor:
		ok = f.ofVendor(&v, kind)
	}
	if !ok {
		return match{}, false
	}
	m := match{v.from, v.end, mark(kind.mark)}
	if f.json && !f.inString(v.from) {
		if v.quote != 0 || f.span(v.from, digits, len(f.b)) != v.end {
			return match{}, false
		}
		m.with = `"` + m.with + `"` // a JSON number
		return m, true
	}
	if v.quote == 0 && f.span(v.from, digits, len(f.b)) == v.end {
		if q := f.innerNumber(v.from, v.end); q != nil {
			m.with = string(q) + m.with + string(q)
		}
	}
	return m, true
}

// lineStart reports whether the assignment whose value is at a position starts
// its line, as in an env file.
func (f *finder) lineStart(at int) bool {
	k := at - 1
	for k > f.done && at-k < 80 && class[f.b[k-1]]&letter != 0 {
		k--
	}
	if k == 0 || k == f.esc || f.b[k-1] == '\n' || f.b[k-1] == '"' {
		return true
	}
	return f.b[k-1] == ' ' && (f.has(k-7, "export ") || f.has(k-4, "ENV ")) || k >= 2 && f.b[k-2] == '\\'
}

// generated reports whether a value looks generated, unlike words and names.
func generated(tok []byte) bool {
	if len(tok) < 12 {
		return false
	}
	n, changes, others := kinds(tok)
	switch {
	case bytes.IndexByte(tok, ' ') >= 0 || reference(tok):
		return false
	case len(tok) >= 16 && random(tok):
		return true
	case n[0] > 0 && n[1] > 0 && n[2] > 0 && changes*3 >= len(tok):
		return true
	case len(tok) >= 20 && n[0] > 1 && n[1]+n[2] > 0 && changes*4 >= len(tok) && others*4 < len(tok):
		return true
	}
	return len(tok) >= 16 && n[1] > 2 && n[2] > 2 && others == 0 && changes*5 >= len(tok)*2
}

// filler reports whether a value is a placeholder for a secret in
// documentation.
func filler(tok []byte) bool {
	l := bytes.ToLower(tok[:min(len(tok), 64)])
	for _, w := range []string{"your-", "your_", "xxxx", "****", "....", "placeholder", "change-me", "change_me", "changeme", "redacted"} {
		if bytes.Contains(l, []byte(w)) {
			return true
		}
	}
	return false
}

// masked reports whether a value is a hidden password: ******, xxxxxx.
func masked(tok []byte) bool {
	return len(tok) > 2 && bytes.Count(tok, tok[:1]) == len(tok)
}

// code distinguishes the name of a variable or a call from an unquoted value.
func (f *finder) code(v *value, kind nameKind) bool {
	tok := v.text()
	if c := f.at(v.end); c == '(' || c == '[' || bytes.IndexByte(tok, '(') >= 0 {
		return true
	}
	n, changes, _ := kinds(tok)
	if n[0] == 0 && !(kind.env && v.tight) {
		return true
	}
	return bytes.IndexByte(tok, '.') >= 0 && n[0] < 3 && changes*3 < len(tok) && !bytes.HasPrefix(tok, []byte("ey"))
}

// reference recognises a variable, a template or a look-up instead of a secret,
// and values that have been scrubbed.
func reference(tok []byte) bool {
	s := string(tok[:min(len(tok), 64)])
	for _, p := range []string{
		"${", "$(", "{{", "%(", "%{", "#{", "@{", "<", "[secret:", "[card]", "[email]", "[redacted", "[REDACTED", "process.env", "os.environ", "os.getenv",
		"os.Getenv", "getenv", "env.", "ENV[", "env(", "config.", "secrets.", "vars.", "var.", "ENC[", "arn:", "op://", "vault:", "ssm:", "file:", "http:", "https:",
	} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	if len(s) > 1 && s[0] == '$' && class[s[1]]&(alpha|under) != 0 {
		return strings.Trim(s[1:], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
	}
	return len(s) > 2 && s[0] == '%' && s[len(s)-1] == '%' || s == "%s" || s == "%v" || s == "%d" || s == "%q"
}

// words are values in the place of a password that are not one: types, states,
// labels.
var words = wordSet(`string str text varchar char none null nil undefined true false yes required optional hidden input
		redacted changeme example sample dummy placeholder secret missing invalid incorrect wrong empty default unset disabled enabled
		forgotten expired reset keyring prompt stdin masked encrypted hashed plain plaintext bytes buffer object function number
		integer bool boolean schema field label value param parameter confirm current username email login
		authentication authenticate credentials basic digest scram ldap kerberos unknown`)

func wordSet(list string) map[string]bool {
	set := make(map[string]bool)
	for _, w := range strings.Fields(list) {
		set[w] = true
	}
	return set
}

// passwordLike checks a value that is assigned to a password name.
func (f *finder) passwordLike(v *value, kind nameKind) bool {
	tok := v.text()
	if v.quote == 0 && !(kind.env && v.tight) {
		for len(tok) > 0 && (tok[len(tok)-1] == '.' || tok[len(tok)-1] == ':') {
			tok = tok[:len(tok)-1] // the sentence's full stop
		}
		v.end -= v.n - len(tok)
	}
	if len(tok) < 4 || reference(tok) || masked(tok) || bytes.IndexByte(tok, ' ') >= 0 {
		return false
	}
	var digit, letter, joiner, other, foreign int
	for _, c := range bytes.TrimRight(tok, ":?!.*") {
		switch cl := class[c]; {
		case cl&digits != 0:
			digit++
		case cl&alpha != 0:
			letter++
		case c >= 0x80:
			foreign++
		case c == '_' || c == '-' || c == '.' || c == '/':
			joiner++
		default:
			other++
		}
	}
	folded := strings.ToLower(string(tok))
	if filler(tok) || words[strings.TrimRight(folded, ":?!.*")] || foreign > 0 && digit == 0 {
		return false
	}
	named := strings.Contains(folded, "passw") || strings.Contains(folded, "pwd") || strings.Contains(folded, "secret")
	if digit+other == 0 && v.n > 0 {
		// Letters only: a password that someone chose, or a name or a label.
		title := class[tok[0]]&upper != 0 && strings.ToLower(string(tok[1:])) == string(tok[1:])
		_, changes, _ := kinds(tok)
		chosen := letter >= 6 && joiner == 0 && !named && !title
		switch {
		case v.quote != 0:
			return chosen && (changes == 0 || changes*3 >= len(tok)) && class[tok[0]]&upper == 0 || scattered(tok)
		case kind.env && v.tight:
			return chosen && !strings.HasPrefix(folded, "get")
		}
		return scattered(tok) && f.at(v.end) != '(' && !named
	}
	if v.quote != 0 {
		return other > 0 || digit > 1 || !named || letter > 0 && kind.env
	}
	switch c := tok[0]; {
	case c == '/' || c == '.' || c == '~' && len(tok) > 1 && tok[1] == '/', c == '&' || c == '(', bytes.IndexByte(tok, '(') >= 0 || f.at(v.end) == '(' || f.at(v.end) == '[':
		return false
	case kind.env && v.tight:
		return true
	case digit == 0 && other > 0:
		// Symbols only: an operator, a type of a language, or a password.
		return other >= 2 && len(tok) >= 8 && scattered(tok)
	case named && other == 0:
		return false
	case letter == 0 && other == 0:
		return digit >= 6 && joiner == 0
	case digit == 1 && other == 0 && isDigit(tok[len(tok)-1]):
		return len(tok) >= 7 && v.tight && v.equal && joiner == 0
	case bytes.IndexByte(tok, '.') >= 0 && other == 0 && digit < 2 && !scattered(tok):
		return false
	}
	return len(tok) >= 6
}

// spoken finds a password in a sentence, "password is X", and in statements
// without an assignment: login ann password X, IDENTIFIED BY 'X'. i is the
// word.
func (f *finder) spoken(i, end int) (match, bool) {
	if f.at(end) != ' ' || i == f.done || f.at(i-1) != ' ' && f.at(i-1) != '\n' {
		return match{}, false
	}
	switch {
	case end-i == 2 && f.fold(i, "is"):
		from, to := f.nameBefore(i)
		kind := kindOf(f.b[from:to])
		if kind.class == namePassword && f.span(end+1, alnum, 64) < len(f.b) {
			v := value{}
			f.read(&v, end+1, false)
			if n, _, _ := kinds(v.text()); n[0] == 0 || v.n < 6 || v.quote == 0 && n[1]+n[2] == 0 {
				return match{}, false
			}
			return f.assignedValue(end+1, kind, value{})
		}
		if kind.class == nameSecret {
			return f.assignedValue(end+1, kind, value{})
		}
	case end-i == 2 && f.fold(i, "by") && f.fold(i-11, "identified ") && f.at(end+1) == '\'':
		return f.assignedValue(end+1, nameKind{class: namePassword, mark: "password"}, value{})
	case end-i == 8 && f.fold(i, "password"):
		if before := f.b[max(f.done, i-80):i]; bytes.Contains(before, []byte("login ")) || f.at(end+1) == '\'' {
			return f.assignedValue(end+1, nameKind{class: namePassword, mark: "password"}, value{})
		}
	}
	return match{}, false
}

func (f *finder) blank(i int) int {
	for most := i + 8; i < most && (f.at(i) == ' ' || f.at(i) == '\t'); i++ {
	}
	return i
}
