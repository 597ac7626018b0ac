package privacy_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/internal/privacy"
)

// secrets are invented, in their published forms. They are concatenated at run
// time, so that source code scanners do not report them.
var secrets = []struct{ name, secret, mark string }{
	{"openai project", "sk-" + "proj-Ab3dEf6hIj9lMnOp_QrStUvWxYz0123456789-AbCdEf", "openai_key"},
	{"openai service account", "sk-" + "svcacct-Ab3dEf6hIj9lMnOpQrStUvWx", "openai_key"},
	{"openai old", "sk-" + "Ab3dEf6hIj9lMnOpQrStT3BlbkFJUvWxYz0123456789AbCd", "openai_key"},
	{"deepseek", "sk-" + "0123456789abcdef0123456789abcdef", "openai_key"},
	{"short test key", "sk-" + "test-secret-0123456789", "openai_key"},
	{"anthropic", "sk-" + "ant-api03-Ab3dEf6hIj9lMnOpQrStUvWxYz-0123456789_AbCdEfGh-AAAA", "anthropic_key"},
	{"openrouter", "sk-" + "or-v1-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "openrouter_key"},
	{"groq", "gsk_" + "Ab3dEf6hIj9lMnOpQrStUvWxYz0123456789AbCdEfGhIjKlMnOp", "groq_key"},
	{"xai", "xai-" + "Ab3dEf6hIj9lMnOpQrStUvWxYz0123456789AbCdEfGhIjKlMnOpQrSt", "xai_key"},
	{"google", "AIza" + "SyAb3dEf6hIj9lMnOpQrStUvWxYz012345-", "google_key"},
	{"aws key id", "AKIA" + "IOSFODNN7EXAMPLE", "aws_key_id"},
	{"aws session key id", "ASIA" + "IOSFODNN7EXAMPLE", "aws_key_id"},
	{"github classic", "ghp_" + "Ab3dEf6hIj9lMnOpQrStUvWxYz0123456789", "github_token"},
	{"github oauth", "gho_" + "Ab3dEf6hIj9lMnOpQrStUvWxYz0123456789", "github_token"},
	{"github server", "ghs_" + "Ab3dEf6hIj9lMnOpQrStUvWxYz0123456789", "github_token"},
	{"github fine-grained", "github_pat_" + "11ABCDEFG0Ab3dEf6hIj9l_MnOpQrStUvWxYz0123456789AbCdEf", "github_token"},
	{"gitlab", "glpat-" + "Ab3dEf6hIj9lMnOpQr-t", "gitlab_token"},
	{"slack bot", "xoxb-" + "123456789012-1234567890123-Ab3dEf6hIj9lMnOpQrStUvWx", "slack_token"},
	{"hugging face", "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh", "huggingface_token"},
	{"posthog personal", "phx_" + "Ab3dEf6hIj9lMnOpQrStUvWxYz0123456789AbCdEfG", "posthog_key"},
	{"posthog secret", "phs_" + "Ab3dEf6hIj9lMnOpQrStUvWxYz0123456789AbCdEfG", "posthog_key"},
	{"posthog oauth", "pha_" + "Ab3dEf6hIj9lMnOpQrStUvWxYz0123456789AbCdEfG", "posthog_key"},
	{"hedgerow", "hr_" + "Ab3dEf6hIj9lMnOpQrStUvWxYz012345", "hedgerow_key"},
	{"npm", "npm_" + "Ab3dEf6hIj9lMnOpQrStUvWxYz0123456789", "npm_token"},
	{"sendgrid", "SG." + "Ab3dEf6hIj9lMnOpQrStUv.WxYz0123456789AbCdEfGhIjKlMnOpQrStUvWxYz012", "sendgrid_key"},
	{"stripe", "sk_live_" + "Ab3dEf6hIj9lMnOpQrStUvWx", "stripe_key"},
	{"stripe restricted", "rk_live_" + "Ab3dEf6hIj9lMnOpQrStUvWx", "stripe_key"},
	{"webhook", "whsec_" + "Ab3dEf6hIj9lMnOpQrStUvWxYz012345", "webhook_secret"},
	{"web token", "eyJ" + "hbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c", "web_token"},
}

func TestScrubFindsSecretsEverywhere(t *testing.T) {
	around := []struct{ name, before, after string }{
		{"alone", "", ""},
		{"in a sentence", "my key is ", ", do not tell"},
		{"at a sentence's end", "use ", "."},
		{"after a line break", `first line\n`, `\nthird`},
		{"after a tab", `\t`, `\t`},
		{"after a form feed", `\f`, ``},
		{"in escaped JSON", `{\"key\": \"`, `\"}`},
		{"in twice escaped JSON", `{\\\"key\\\": \\\"`, `\\\"}`},
		{"after an escaped line break in escaped JSON", `{\"text\": \"line\\n`, `\"}`},
		{"in angle brackets", `<`, `>`},
		{"in angle brackets as Go writes them", `\u003c`, `\u003e`},
		{"after an escaped accent", `\u00e9`, ``},
		{"after Chinese", "密钥", "。"},
		{"in an assignment", "OPENAI_API_KEY=", ""},
		{"in a URL", "https://api.example.com/?key=", "&x=1"},
		{"in a URL's escape", "https://api.example.com/%3D", ""},
		{"in backquotes", "`", "`"},
	}
	for _, s := range secrets {
		for _, a := range around {
			t.Run(s.name+" "+a.name, func(t *testing.T) {
				doc := `{"m":[{"content":"` + a.before + s.secret + a.after + `"},1]}`
				if !json.Valid([]byte(doc)) {
					t.Fatalf("the test's document is not JSON: %s", doc)
				}
				got := string(privacy.ScrubJSON([]byte(doc), false))
				if strings.Contains(got, s.secret[8:]) {
					t.Errorf("the secret survived: %s", got)
				}
				if !json.Valid([]byte(got)) {
					t.Errorf("no longer JSON: %s", got)
				}
				if a.before == "" && got != `{"m":[{"content":"[secret:`+s.mark+`]"},1]}` {
					t.Errorf("got %s", got)
				}
			})
		}
		t.Run(s.name+" as a key", func(t *testing.T) {
			got := string(privacy.ScrubJSON([]byte(`{"`+s.secret+`": 1}`), false))
			if got != `{"[secret:`+s.mark+`]": 1}` {
				t.Errorf("got %s", got)
			}
		})
		t.Run(s.name+" in text", func(t *testing.T) {
			if got := privacy.ScrubText("key: "+s.secret+"\nnext", false); got != "key: [secret:"+s.mark+"]\nnext" {
				t.Errorf("got %q", got)
			}
		})
		t.Run(s.name+" with escapes", func(t *testing.T) {
			written := strings.NewReplacer("-", `\u002d`, "_", `\u005F`, ".", `\u002E`).Replace(s.secret)
			for _, doc := range []string{
				`{"a\/b":"é","k":"` + written + `"}`,
				`{"k":"\u` + fmt.Sprintf("%04x", s.secret[0]) + written[1:] + `"}`,
				`{"args":"{\"k\":\"` + strings.ReplaceAll(written, `\`, `\\`) + `\"}"}`,
			} {
				got := string(privacy.ScrubJSON([]byte(doc), false))
				if !strings.Contains(got, "[secret:"+s.mark+"]") || !json.Valid([]byte(got)) {
					t.Errorf("%s became %s", doc, got)
				}
			}
		})
	}
}

func TestScrubFindsCredentialsInContext(t *testing.T) {
	aws := "wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY"
	hex := "0123456789abcdef0123456789abcdef"
	for _, tt := range []struct{ name, in, want string }{
		{"bearer header", `"curl -H 'Authorization: Bearer abcdefgh12345678'"`, `"curl -H 'Authorization: Bearer [secret:bearer_token]'"`},
		{"bearer member", `{"Authorization": "Bearer abc12345"}`, `{"Authorization": "Bearer [secret:bearer_token]"}`},
		{"bearer in escaped JSON", `"{\"authorization\":\"bearer abc12345\"}"`, `"{\"authorization\":\"bearer [secret:bearer_token]\"}"`},
		{"bearer alone", `"send Bearer 9f8e7d6c5b4a39281706f5e4 with it"`, `"send Bearer [secret:bearer_token] with it"`},
		{"basic header", `"Authorization: Basic dXNlcjpwYXNzd29yZA=="`, `"Authorization: Basic [secret:basic_auth]"`},
		{"basic alone", `"Basic dXNlcjpwYXNzd29yZA=="`, `"Basic [secret:basic_auth]"`},
		{"no scheme", `"authorization: ` + hex + `"`, `"authorization: [secret:bearer_token]"`},
		{"aws secret in a file", `"AWS_SECRET_ACCESS_KEY=` + aws + `\nAWS_REGION=eu"`, `"AWS_SECRET_ACCESS_KEY=[secret:aws_secret_key]\nAWS_REGION=eu"`},
		{"aws secret as PHP writes it", `"aws_secret_access_key = ` + strings.ReplaceAll(aws, "/", `\/`) + `"`, `"aws_secret_access_key = [secret:aws_secret_key]"`},
		{"aws secret in camel case", `{"secretAccessKey":"` + aws + `"}`, `{"secretAccessKey":"[secret:aws_secret_key]"}`},
		{"azure header", `{"api-key":"` + hex + `"}`, `{"api-key":"[secret:api_key]"}`},
		{"api key in code", `"client = OpenAI(api_key='` + hex + `')"`, `"client = OpenAI(api_key='[secret:api_key]')"`},
		{"apiKey in code", `"new Client({ apiKey: \"` + hex + `\" })"`, `"new Client({ apiKey: \"[secret:api_key]\" })"`},
		{"client secret", `{"client_secret": "` + hex + `"}`, `{"client_secret": "[secret:client_secret]"}`},
		{"url password", `"postgres://app:hunter2@db.internal:5432/x"`, `"postgres://app:[secret:url_password]@db.internal:5432/x"`},
		{"url password with at", `"https://me:p@ss@example.com/"`, `"https://me:[secret:url_password]@example.com/"`},
		{"url password as PHP writes it", `"https:\/\/me:pass@example.com\/"`, `"https://me:[secret:url_password]@example.com/"`},
		{"private key", `"-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7\n+/abc==\n-----END RSA PRIVATE KEY-----\nbye"`, `"[secret:private_key]\nbye"`},
		{"encrypted private key", `"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AB\n\nMIIE\n-----END RSA PRIVATE KEY-----"`, `"[secret:private_key]"`},
		{"private key cut off", `{"a":"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7","b":"MIIE"}`, `{"a":"[secret:private_key]","b":"MIIE"}`},
		{"private key in escaped JSON", `"{\"pem\":\"-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY-----\\n\"}"`, `"{\"pem\":\"[secret:private_key]\\n\"}"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := string(privacy.ScrubJSON([]byte(tt.in), false))
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if !json.Valid([]byte(got)) {
				t.Error("no longer JSON")
			}
		})
	}
}

func TestScrubCards(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"visa", `"pay with 4111111111111111 now"`, `"pay with [card] now"`},
		{"spaces", `"4111 1111 1111 1111 12/27 123"`, `"[card] 12/27 123"`},
		{"a number before", `"2 4111 1111 1111 1111"`, `"2 [card]"`},
		{"dashes", `"5555-5555-5555-4444."`, `"[card]."`},
		{"amex", `"3782 822463 10005"`, `"[card]"`},
		{"amex in one", `"378282246310005"`, `"[card]"`},
		{"diners", `"3056 930902 5904"`, `"[card]"`},
		{"jcb", `"3530111333300000"`, `"[card]"`},
		{"unionpay 19", `"6205500000000000004"`, `"[card]"`},
		{"after a line break", `"\n4111111111111111"`, `"\n[card]"`},
		{"after an escape with digits", `"\u20394111111111111111"`, `"\u2039[card]"`},
		{"number", `{"card":4111111111111111}`, `{"card":"[card]"}`},
		{"number in a list", `[1, 4111111111111111 ,2]`, `[1, "[card]" ,2]`},
		{"negative number", `[-4111111111111111]`, `["[card]"]`},
		{"number as a float", `[4111111111111111.0]`, `["[card]"]`},
		{"whole document", `4111111111111111`, `"[card]"`},
		{"key", `{"4111111111111111":true}`, `{"[card]":true}`},
		{"number in escaped JSON", `"{\"card\":4111111111111111,\"cvc\": 123}"`, `"{\"card\":\"[card]\",\"cvc\": 123}"`},
		{"string in escaped JSON", `"{\"card\":\"4111111111111111\"}"`, `"{\"card\":\"[card]\"}"`},
		{"last number in escaped JSON", `"{\"card\": 4111111111111111}"`, `"{\"card\": \"[card]\"}"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := string(privacy.ScrubJSON([]byte(tt.in), false))
			if got != tt.want || !json.Valid([]byte(got)) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestScrubLeavesLookAlikes(t *testing.T) {
	for _, in := range []string{
		`"550e8400-e29b-41d4-a716-446655440000"`,
		`"12345678-4111-4111-8111-111111111111"`,
		`"d41d8cd98f00b204e9800998ecf8427e"`,
		`"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`,
		`"commit f0c7c76a9246d3a760f52e1b2c3d4e5f60718293"`,
		`"2026-01-31T12:00:00.000000Z"`,
		`"20260131120000"`,
		`{"ts":1767225600000,"us":1767225600000000,"ns":1767225600000000000}`,
		`"$1,234,567.89 and 4,111,111,111,111,111"`,
		`"order 4111111111111112"`,
		`{"order":4111111111111112}`,
		`{"x":0.4111111111111111,"y":-3.4111111111111111e-5,"z":4.111111111111111e15}`,
		`[0.012345678901234567,4111111111111111.5]`,
		`"+4111111111111111"`,
		`"41111111111111111111111"`,
		`"a4111111111111111"`,
		`"4111111111111111b"`,
		`"4111-1111-1111-1111-2222"`,
		`"1234 5678 9012 3456"`,
		`"task-force, risk-based, desk-bound, disk-encryption, ask-me-anything-about-2024"`,
		`"the sk-learn library, sk-SK locale, .sk-fading-circle12 .sk-circle-fade-dot"`,
		`"task-0123456789abcdef0123456789abcdef"`,
		`"phc_` + `Ab3dEf6hIj9lMnOpQrStUvWxYz0123456789AbCdEfG"`,
		`{"api_key":"phc_` + `Ab3dEf6hIj9lMnOpQrStUvWxYz0123456789AbCdEfG"}`,
		`"pk_live_` + `Ab3dEf6hIj9lMnOpQrStUvWx"`,
		`"chatcmpl-Ab3dEf6hIj9lMnOpQrStUvWxYz012"`,
		`"msg_01Ab3dEf6hIj9lMnOpQrStUv"`,
		`"resp_0123456789abcdef0123456789abcdef0123456789abcdef"`,
		`"call_Ab3dEf6hIj9lMnOpQrStUvWx"`,
		`"toolu_01Ab3dEf6hIj9lMnOpQrStUv"`,
		`"trace_01J7ZP8E9K4VQ2, req_01J7ZP8F3N1A6, pv_2026_06_04_003, user_8f3a_hash"`,
		`"fp_44709d6fcb, gpt-4.1-mini-2025-04-14, claude-sonnet-4-5-20250929"`,
		`"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"`,
		`"TWFuIGlzIGRpc3Rpbmd1aXNoZWQsIG5vdCBvbmx5IGJ5IGhpcyByZWFzb24sIGJ1dCBieQ=="`,
		`"Basic authentication, Bearer of bad news, Basic understanding2 of it, bearer token-based"`,
		`"Authorization: Bearer $OPENAI_API_KEY"`,
		`"Authorization: Bearer <token>"`,
		`"authorization: required"`,
		`"api_key=os.environ['OPENAI_API_KEY']"`,
		`"api_key: your_api_key_here"`,
		`{"max_tokens":4096,"access_token":null}`,
		`"npm_config_registry, hf_hub_download, hr_department_2024_reports, gsk_vaccine_data"`,
		`"-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n-----END CERTIFICATE-----"`,
		`"-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END PUBLIC KEY-----"`,
		`"A PEM file begins with -----BEGIN PRIVATE KEY----- and then base64"`,
		`"https://example.com:8080/a@b and mailto:me@example.com"`,
		`"https://user@example.com/"`,
		`"\u002d\/ nothing here \u003c"`,
		`"AKIA is a prefix, AKIAIOSFODNN7EXAMPLEE is too long"`,
		`"ISBN 978-3-16-148410-0, IBAN DE89 3704 0044 0532 0130 00"`,
		`""`, `{}`, `[]`, `null`, ``,
	} {
		got := privacy.ScrubJSON([]byte(in), false)
		if string(got) != in {
			t.Errorf("%s became %s", in, got)
		}
	}
}

func TestScrubEmails(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`"write to ann.lee+x@mail.example.co.uk."`, `"write to [email]."`},
		{`"\nann@example.com"`, `"\n[email]"`},
		{`"{\"a\":\"line\\nann@example.com\"}"`, `"{\"a\":\"line\\n[email]\"}"`},
		{`{"ann@example.com":"a@b.io,c@d.org"}`, `{"[email]":"[email],[email]"}`},
		{`"联系ann@example.com。"`, `"联系[email]。"`},
		{`"@user, a@b, x@y.1, user@localhost, @decorator.method"`, `"@user, a@b, x@y.1, user@localhost, @decorator.method"`},
	} {
		if got := string(privacy.ScrubJSON([]byte(tt.in), true)); got != tt.want {
			t.Errorf("%s became %s, want %s", tt.in, got, tt.want)
		}
		if got := string(privacy.ScrubJSON([]byte(tt.in), false)); got != tt.in {
			t.Errorf("without emails set, %s became %s", tt.in, got)
		}
	}
}

func TestScrubReturnsItsInputWhenThereIsNothing(t *testing.T) {
	in := []byte(`{"a":"\u003cb\u003e some \/ text"}`)
	if got := privacy.ScrubJSON(in, true); &got[0] != &in[0] {
		t.Error("the document was copied")
	}
	if n := testing.AllocsPerRun(10, func() { privacy.ScrubJSON(prose[:4096], false) }); n != 0 {
		t.Errorf("%v allocations for prose, want 0", n)
	}
}

// TestScrubIsLinear scrubs documents of near-secrets, of two lengths: eight
// times the length must not take much more than eight times as long. A scan
// with unbounded look-behind or look-ahead takes 64 times as long.
func TestScrubIsLinear(t *testing.T) {
	read := func(unit string, size int) time.Duration {
		doc := []byte(`"` + strings.Repeat(unit, size/len(unit)) + `"`)
		best := time.Hour
		for range 3 {
			before := processorTime()
			privacy.ScrubJSON(doc, true)
			privacy.RedactBase64(doc)
			privacy.Truncate(doc, 100)
			best = min(best, processorTime()-before)
		}
		return best
	}
	for _, unit := range []string{
		"sk-", "-sk-a", "eyJ", ".eyJa", "eyJa.", "api_key=", "@", "a@", "://a:", "://a:b@", "://a:b/", "-----BEGIN PRIVATE KEY-----",
		"-----BEGIN PRIVATE KEY----- A ", "4111 ", "4111-", "4111.", `4111\n`, "41", "Bearer ", "Authorization: ", `\\`, `\\u002d`, "AKIA", "SG.", "aAzZ", "Bearer a",
		"password=", `password=\"`, `password: '`, "token: a1B2c3D4e5\\n", `aB3dE6gH\n`, `aB3dE6gH\" + \"`, `secret=aB3dE6gH9jK\n`, "--password ", "curl -u a:bcd ", "name: x value: ",
		"AAAAAAAAAAAAAAAAAAAAAA", "glpat-aB3d", "sntrys_aB3d", `ghp_aB3d\n`, "Q~", "a1Q~aB3d", "is password is ", "=>", "x:", `\"password\":`, "datadog_key: ", `\\\"+\\\"`,
	} {
		short, long := read(unit, 32<<10), read(unit, 256<<10)
		if long > 24*short+20*time.Millisecond {
			t.Errorf("%q: 32 KB in %v, 256 KB in %v", unit, short, long)
		}
		if testing.Verbose() && long > 25*time.Millisecond {
			t.Logf("%q: 32 KB in %v, 256 KB in %v", unit, short, long)
		}
	}
}

func FuzzScrubJSON(f *testing.F) {
	for _, s := range secrets {
		f.Add([]byte(`{"a":"\n` + s.secret + `","` + s.secret + `":[4111111111111111,"4111 1111 1111 1111"]}`))
	}
	for _, s := range []string{
		`"\u002d\\u002d\\\u002d\/\\/"`, `"ann@example.com\\n\u00e9a@b.io"`, `"https:\/\/a:b@c"`, `{"a":-4111111111111111e0}`,
		`"-----BEGIN PRIVATE KEY-----\\n\\\\nMIIE\u000a-----END PRIVATE KEY-----"`, `"Authorization\": \"Basic dXNlcjpwYXNzd29yZA=="`,
		`{"data":"AAAA","x":"data:image\/png;base64,iVBORw0KGgo="}`, `"\npm_Ab3dEf6hIj9lMnOpQrStUvWxYz0123456789"`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		before := string(in)
		out := privacy.ScrubJSON(in, true)
		if string(in) != before {
			t.Fatal("the input was modified")
		}
		if json.Valid(in) && !json.Valid(out) {
			t.Fatalf("no longer JSON: %q became %q", in, out)
		}
		if utf8.Valid(in) && !utf8.Valid(out) {
			t.Fatalf("no longer UTF-8: %q became %q", in, out)
		}
		if again := privacy.ScrubJSON(out, true); string(again) != string(out) {
			t.Fatalf("not idempotent:\n%q\n%q\n%q", in, out, again)
		}
		text := privacy.ScrubText(string(in), true)
		if again := privacy.ScrubText(text, true); again != text {
			t.Fatalf("text not idempotent:\n%q\n%q\n%q", in, text, again)
		}
		for _, limit := range []int{32, 40, 64} {
			cut := privacy.Truncate(privacy.RedactBase64(in), limit)
			if json.Valid(in) && !json.Valid(cut) {
				t.Fatalf("cut to %d, no longer JSON: %q became %q", limit, in, cut)
			}
			if utf8.Valid(in) && !utf8.Valid(cut) {
				t.Fatalf("cut to %d, no longer UTF-8: %q became %q", limit, in, cut)
			}
		}
	})
}

// prose is a typical prompt: words, some code, some numbers, as JSON.
var prose = func() []byte {
	words := strings.Fields(`the quick report says that our customers in the northern region bought 12 more items than in 2024, which is
		why we should look at the numbers again. Please summarise the following document in three sentences and keep every name and
		date as it stands. func main() { fmt.Println("hello", x_value) } It was a bright cold day in April, and the clocks were
		striking thirteen; nobody could explain the well-known effect. Kindly answer in JSON with the fields title, body and score.`)
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for b.Len() < 1<<20 {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(' ')
	}
	doc, _ := json.Marshal([]map[string]string{{"role": "user", "content": b.String()}})
	return doc
}()

// BenchmarkScrub scrubs a megabyte of each kind of document and reports the CPU
// time per megabyte.
func BenchmarkScrub(b *testing.B) {
	mega := func(unit string) []byte {
		return []byte(`[{"role":"user","content":` + inJSON(strings.Repeat(unit, max(1, 1<<20/len(unit)))) + `}]`)
	}
	source, err := os.ReadFile("secrets_assign.go")
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var floats []float64
	for range 54 << 10 {
		floats = append(floats, r.Float64())
	}
	numbers, _ := json.Marshal(floats)
	var list []map[string]any
	for range 6000 {
		list = append(list, map[string]any{"id": uuid(r), "token_count": r.IntN(9999), "name": "item " + letters(r, alphabets["lower"], 8), "tags": []string{"a-b", "c_d"}, "ok": true, "key": letters(r, alphabets["hex"], 32)})
	}
	records, _ := json.Marshal(list)
	var env strings.Builder
	all := descriptions(b)
	for env.Len() < 1<<20 {
		d := all[r.IntN(len(all))]
		secret, _ := d.make(r)
		env.WriteString("The next one:\n" + d.place(r, placements[r.IntN(len(placements))], secret) + "\n")
	}
	for _, bb := range []struct {
		name string
		doc  []byte
	}{
		{"prose", prose}, {"code", mega(string(source))}, {"numbers", numbers}, {"records", records}, {"a secret in each line", mega(env.String())},
		{"base64 in one line", mega(letters(r, alphabets["b64"], 1<<20))}, {"base64 in lines", mega(wrap(letters(r, alphabets["b64"], 1<<20), 76, "\n"))},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(int64(len(bb.doc)))
			b.ReportAllocs()
			before := processorTime()
			for b.Loop() {
				privacy.ScrubJSON(bb.doc, true)
			}
			b.ReportMetric(float64((processorTime()-before).Microseconds())/1000/float64(b.N)/float64(len(bb.doc))*(1<<20), "cpu-ms/MB")
		})
	}
}
