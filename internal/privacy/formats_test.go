package privacy_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/internal/privacy"
)

// A description is a line of testdata/secret-formats.txt: the published form of
// a secret. Nothing here reads the scrubber's patterns.
type description struct {
	name, prefix string
	parts        []part
	contexts     []string
	frame        string // with {}, if the secret is recognised only inside it
}

type part struct {
	alphabet   string
	least, top int
	after      string // literal after it
}

var lengths = regexp.MustCompile(`(\d+)(?:-(\d+))?\s*(?:"([^"]*)")?`)

func descriptions(t testing.TB) (out []description) {
	file, err := os.Open("testdata/secret-formats.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.SplitN(line, " |", 5)
		if len(f) != 5 {
			t.Fatalf("not a description: %s", line)
		}
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		d := description{name: f[0], prefix: plain(f[1])}
		alphabets := strings.Split(f[2], ",")
		for i, m := range lengths.FindAllStringSubmatch(f[3], -1) {
			p := part{alphabet: strings.TrimSpace(alphabets[min(i, len(alphabets)-1)]), after: plain(m[3])}
			p.least, _ = strconv.Atoi(m[1])
			if p.top, _ = strconv.Atoi(m[2]); p.top == 0 {
				p.top = p.least
			}
			d.parts = append(d.parts, p)
		}
		switch {
		case strings.Contains(f[4], "{}"):
			d.frame = f[4]
		case f[4] != "-":
			for _, c := range strings.Split(f[4], ",") {
				d.contexts = append(d.contexts, strings.TrimSpace(c))
			}
		}
		if len(d.parts) == 0 {
			t.Fatalf("no length: %s", line)
		}
		out = append(out, d)
	}
	return out
}

func plain(s string) string {
	if u, err := strconv.Unquote(`"` + s + `"`); err == nil {
		return u
	}
	return s
}

var alphabets = map[string]string{
	"digit": "0123456789", "hex": "0123456789abcdef", "HEX": "0123456789ABCDEF",
	"lower": "abcdefghijklmnopqrstuvwxyz0123456789", "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
	"alpha": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
	"alnum": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
	"b32":   "abcdefghijklmnopqrstuvwxyz234567", "B32": "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
	"b64":    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
	"b64url": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
	"bech32": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", "password": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#%*+-._~^",
	"pathpass": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/+",
}

func letters(r *rand.Rand, alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

// make returns a secret of the description and the part of it that must be
// removed.
func (d description) make(r *rand.Rand) (whole, hidden string) {
	var b strings.Builder
	for _, p := range d.parts {
		n := p.least + r.IntN(p.top-p.least+1)
		switch p.alphabet {
		case "card":
			return cardNumber(r, d.prefix, n, p.after), ""
		case "pem":
			for i := range n {
				if i > 0 {
					b.WriteByte('\n')
				}
				b.WriteString(letters(r, alphabets["b64"], 64))
			}
		case "humanpass":
			words := []string{"hunter", "Sommer", "dragon", "Welcome", "kitten", "summer", "Qwerty", "flamingo", "Secure"}
			b.WriteString(words[r.IntN(len(words))] + strconv.Itoa(r.IntN(9990)+10) + []string{"", "!", "#", "$", "?"}[r.IntN(5)])
		case "basic":
			b.WriteString(base64.StdEncoding.EncodeToString([]byte("deploy:" + letters(r, alphabets["alnum"], n))))
		case "password", "pathpass":
			s := letters(r, alphabets[p.alphabet], n)
			for !strings.ContainsAny(s, "0123456789") || p.alphabet == "pathpass" && !strings.Contains(s[2:n-2], "/") || strings.ContainsAny(s[:1], "!#%*+-._~^/0123456789") {
				s = letters(r, alphabets[p.alphabet], n)
			}
			b.WriteString(s)
		case "b64url":
			s := letters(r, alphabets["b64url"], n)
			if n > 0 {
				s = s[:n-1] + letters(r, alphabets["alnum"], 1)
			}
			b.WriteString(s)
		default:
			b.WriteString(letters(r, alphabets[p.alphabet], n))
		}
		b.WriteString(p.after)
	}
	return d.prefix + b.String(), b.String()
}

func cardNumber(r *rand.Rand, first string, n int, sep string) string {
	d := []byte(first)
	switch first {
	case "5":
		d = append(d, byte('1'+r.IntN(5)))
	case "3":
		d = append(d, "47"[r.IntN(2)])
	}
	for len(d) < n-1 {
		d = append(d, byte('0'+r.IntN(10)))
	}
	sum := 0
	for i := range d {
		v := int(d[len(d)-1-i] - '0')
		if i%2 == 0 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	d = append(d, byte('0'+(10-sum%10)%10))
	groups := []int{4, 4, 4, 4}
	if n == 15 {
		groups = []int{4, 6, 5}
	}
	var out []string
	at := 0
	for _, g := range groups {
		out = append(out, string(d[at:at+g]))
		at += g
	}
	if sep == "\n" {
		return out[0] + " " + out[1] + "\n" + out[2] + " " + out[3]
	}
	return strings.Join(out, sep)
}

// neutral are names without meaning: a secret of a known form must be found
// after them too.
var neutral = []string{"VALUE", "data", "x", "config", "INPUT_1", "note"}

// A placement puts a secret in a typical document.
type placement struct {
	name string
	text func(r *rand.Rand, name, secret string) string
	json bool // the result is already a JSON document
}

func inJSON(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

var placements = []placement{
	{"env file", func(r *rand.Rand, n, s string) string {
		return "# settings\nPORT=8080\n" + n + "=" + s + "\nDEBUG=true\n"
	}, false},
	{"env file, quoted", func(r *rand.Rand, n, s string) string {
		return "export A=1\nexport " + n + "=\"" + s + "\"\nexport B=2\n"
	}, false},
	{"JSON", func(r *rand.Rand, n, s string) string {
		return `{"id": 7, ` + inJSON(n) + `: ` + inJSON(s) + `, "on": true}`
	}, true},
	{"JSON, compact", func(r *rand.Rand, n, s string) string {
		return `{"settings":{` + inJSON(n) + `:` + inJSON(s) + `},"list":[1,2]}`
	}, true},
	{"JSON in a message", func(r *rand.Rand, n, s string) string {
		return "I get an error with this:\n" + `{"user": "ann", ` + inJSON(n) + `: ` + inJSON(s) + `}` + "\nWhat is wrong?"
	}, false},
	{"YAML", func(r *rand.Rand, n, s string) string {
		return "service:\n  name: shop\n  " + n + ": " + s + "\n  replicas: 2\n"
	}, false},
	{"YAML, quoted", func(r *rand.Rand, n, s string) string {
		return "env:\n  - name: PORT\n    value: \"80\"\n  - name: " + n + "\n    value: '" + s + "'\n"
	}, false},
	{"URL", func(r *rand.Rand, n, s string) string {
		return "GET https://api.example.com/v1/items?page=2&" + n + "=" + s + "&sort=asc HTTP/1.1"
	}, false},
	{"header", func(r *rand.Rand, n, s string) string {
		return "GET /v1/items HTTP/1.1\r\nHost: api.example.com\r\n" + n + ": " + s + "\r\nAccept: */*\r\n"
	}, false},
	{"shell", func(r *rand.Rand, n, s string) string {
		return "curl -sS -H '" + n + ": " + s + "' https://api.example.com/v1/items | jq ."
	}, false},
	{"shell, option", func(r *rand.Rand, n, s string) string {
		return "./deploy --env prod --" + strings.ToLower(strings.ReplaceAll(n, "_", "-")) + " " + s + " --verbose"
	}, false},
	{"Go", func(r *rand.Rand, n, s string) string {
		return "package main\n\nvar " + n + " = " + strconv.Quote(s) + "\n"
	}, false},
	{"Python", func(r *rand.Rand, n, s string) string {
		return "client = Client(\n    " + n + "='" + s + "',\n    timeout=30,\n)\n"
	}, false},
}

// splits break a placement: at a column, with an escape, or as concatenated
// strings.
var splits = []placement{
	{"wrapped at a column", func(r *rand.Rand, n, s string) string {
		return "Here is the file:\n" + wrap(n+"="+s, 30+r.IntN(50), "\n") + "\nIs it right?"
	}, false},
	{"wrapped in CRLF", func(r *rand.Rand, n, s string) string {
		return wrap(n+": "+s, 30+r.IntN(50), "\r\n") + "\r\n"
	}, false},
	{"shell continuation", func(r *rand.Rand, n, s string) string {
		return "export \\\n" + wrap(n+"="+s, 40+r.IntN(40), "\\\n") + "\necho done\n"
	}, false},
	{"concatenated in Java", func(r *rand.Rand, n, s string) string {
		return "String " + n + " = \"" + wrap(s, 16+r.IntN(40), "\" +\n        \"") + "\";\n"
	}, false},
	{"concatenated in Python", func(r *rand.Rand, n, s string) string {
		return n + " = ('" + wrap(s, 16+r.IntN(40), "'\n    '") + "')\n"
	}, false},
	{"YAML, indented", func(r *rand.Rand, n, s string) string {
		return "data:\n  " + n + ": |-\n    " + wrap(s, 20+r.IntN(50), "\n    ") + "\n  other: 1\n"
	}, false},
}

func wrap(s string, col int, sep string) string {
	var b strings.Builder
	for len(s) > col {
		b.WriteString(s[:col])
		b.WriteString(sep)
		s = s[col:]
	}
	return b.String() + s
}

// found reports whether the secret was removed: no eight consecutive characters
// of it remain, or, of a shorter one, not all of it.
func found(out, hidden string) bool {
	hidden = strings.ReplaceAll(hidden, "\n", "")
	out = joints.Replace(out)
	n := min(8, len(hidden))
	for i := 0; i+n <= len(hidden); i++ {
		if strings.Contains(out, hidden[i:i+n]) {
			return false
		}
	}
	return true
}

var joints = strings.NewReplacer("\n", "", "\r", "", `\n`, "", `\r`, "")

type tally struct{ made, found int }

func (t tally) String() string {
	return fmt.Sprintf("%d of %d (%.1f %%)", t.found, t.made, 100*float64(t.found)/float64(max(1, t.made)))
}

// TestSecretsAreFound generates secrets from their descriptions and checks that
// the scrubber removes them in every placement: at least 95 of 100, in one
// piece and broken over lines, and most of each format.
func TestSecretsAreFound(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 8))
	list := descriptions(t)
	if len(list) < 120 {
		t.Fatalf("only %d formats", len(list))
	}
	byPlace := map[string]*tally{}
	byFormat := map[string]*tally{}
	var whole, split tally
	count := func(place string, all *tally, d description, ok bool) {
		for key, m := range map[string]map[string]*tally{place: byPlace, d.name: byFormat} {
			if m[key] == nil {
				m[key] = &tally{}
			}
			m[key].made++
			if ok {
				m[key].found++
			}
		}
		all.made++
		if ok {
			all.found++
		}
	}
	show := os.Getenv("SHOW_MISSES")
	check := func(p placement, all *tally, d description, text, hidden string) {
		for _, in := range []string{"text", "message"} {
			if p.json && in == "text" {
				continue
			}
			doc := text
			var out string
			switch {
			case in == "text":
				out = privacy.ScrubText(doc, false)
			case p.json:
				out = string(privacy.ScrubJSON([]byte(doc), false))
			default:
				doc = `[{"role":"user","content":` + inJSON(text) + `}]`
				out = string(privacy.ScrubJSON([]byte(doc), false))
			}
			if in == "message" && !json.Valid([]byte(out)) {
				t.Errorf("%s in %s: no longer JSON:\n%s\n%s", d.name, p.name, doc, out)
			}
			ok := found(unquote(out), hidden)
			count(p.name, all, d, ok)
			if !ok && show != "" && (show == "all" || show == d.name || show == p.name) {
				t.Logf("%s in %s (%s):\n%s\n%s", d.name, p.name, in, doc, out)
			}
		}
	}
	for _, d := range list {
		for range 6 {
			secret, hidden := d.make(r)
			if hidden == "" {
				hidden = secret
			}
			for _, p := range placements {
				if d.frame != "" && strings.HasPrefix(d.frame, "{\"") && p.name != "env file" {
					continue
				}
				check(p, &whole, d, d.place(r, p, secret), hidden)
			}
			if strings.Contains(secret, "\n") {
				continue // already broken over lines
			}
			for _, p := range splits {
				check(p, &split, d, d.place(r, p, secret), hidden)
			}
		}
	}
	var places, weak []string
	for p, n := range byPlace {
		places = append(places, fmt.Sprintf("%-24s %v", p, n))
	}
	for f, n := range byFormat {
		if n.found*10 < n.made*9 {
			weak = append(weak, fmt.Sprintf("%-24s %v", f, n))
		}
		if n.found*2 < n.made {
			t.Errorf("%s: %v", f, n)
		}
	}
	sort.Strings(places)
	sort.Strings(weak)
	t.Logf("%d formats; in one piece %v, over lines %v\n%s\nformats below 90 %%:\n%s", len(list), whole, split, strings.Join(places, "\n"), strings.Join(weak, "\n"))
	if whole.found*100 < whole.made*95 {
		t.Errorf("in one piece: %v", whole)
	}
	if split.found*100 < split.made*95 {
		t.Errorf("over lines: %v", split)
	}
}

// place puts the secret under one of its names, or into its frame and that
// under a neutral name.
func (d description) place(r *rand.Rand, p placement, secret string) string {
	switch {
	case d.frame != "":
		if strings.HasPrefix(d.frame, "{\"") {
			return strings.Replace(d.frame, "{}", secret, 1)
		}
		framed := strings.Replace(d.frame, "{}", secret, 1)
		if strings.HasPrefix(framed, "- name: ") {
			framed = strings.Replace(framed, " value", "\n  value", 1)
		}
		return p.text(r, neutral[r.IntN(len(neutral))], framed)
	case len(d.contexts) > 0:
		return p.text(r, d.contexts[r.IntN(len(d.contexts))], secret)
	}
	return p.text(r, neutral[r.IntN(len(neutral))], secret)
}

// unquote decodes JSON escapes, so that the rest of a secret is seen.
func unquote(s string) string {
	return strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\"`, `"`, `\\`, `\`, `\u0026`, "&", `\u003c`, "<", `\u003e`, ">").Replace(s)
}

// TestNearMissesStay generates texts that look like each format and are not
// secrets: the prefix alone or in a sentence, a few characters after it, a
// placeholder instead of the secret, a card number with a wrong check digit.
func TestNearMissesStay(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 3))
	made := 0
	for _, d := range descriptions(t) {
		var misses []string
		secret, _ := d.make(r)
		switch {
		case d.parts[0].alphabet == "card":
			last := strings.LastIndexAny(secret, "0123456789")
			misses = append(misses, secret[:last]+string('0'+(secret[last]-'0'+1)%10), "1"+secret, secret+"7")
		case d.parts[0].alphabet == "pem":
			misses = append(misses, d.prefix, "A file that begins with "+d.prefix, strings.ReplaceAll(secret, "PRIVATE", "PUBLIC"))
		case d.frame != "":
			if d.name == "launchdarkly" {
				break // a frame of the key itself
			}
			for _, p := range []string{"${SECRET}", "$SECRET", "<secret>", "{{ secret }}", "********", "xxxxxxxx"} {
				if strings.HasPrefix(d.name, "azure") || strings.HasPrefix(d.name, "password") || p != "********" {
					misses = append(misses, strings.Replace(d.frame, "{}", p, 1))
				}
			}
		case len(d.contexts) > 0:
			for _, c := range d.contexts {
				for _, p := range []string{"${" + c + "}", "$" + c, "<" + strings.ToLower(c) + ">", "os.environ[\"" + c + "\"]", "{{ " + strings.ToLower(c) + " }}", "null", "required", "your-key-here", "********", "xxxxxxxxxxxxxxxxxxxxxxxx", "", "..."} {
					misses = append(misses, c+"="+p, c+": "+p, `{"`+c+`": `+inJSON(p)+`}`)
				}
				misses = append(misses, "Set "+c+" to the key that you were given, or leave "+c+" empty.")
			}
		case len(d.prefix) > 2 && !strings.Contains(d.prefix, "YmVkcm9j"):
			misses = append(misses, d.prefix, "Tokens begin with "+d.prefix+" and go on.", d.prefix+"...", d.prefix+"abc", d.prefix+"xxx",
				d.prefix+"<token>", d.prefix+"${TOKEN}", "`"+d.prefix+"`")
			if d.parts[0].least >= 20 {
				misses = append(misses, d.prefix+letters(r, alphabets["lower"], 5)+".")
			}
		default:
			body := secret[len(secret)/2:]
			if len(body) < 12 {
				misses = append(misses, body)
			}
		}
		for _, m := range misses {
			made++
			if got := privacy.ScrubText(m, false); got != m {
				t.Errorf("%s: %q became %q", d.name, m, got)
			}
			if got, want := string(privacy.ScrubJSON([]byte(inJSON(m)), false)), inJSON(m); got != want {
				t.Errorf("%s: %s became %s", d.name, want, got)
			}
		}
	}
	if made < 1000 {
		t.Errorf("only %d near misses", made)
	}
	t.Logf("%d near misses", made)
}
