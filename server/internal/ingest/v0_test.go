package ingest_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/google/uuid"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
)

func gzipOf(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

func zlibOf(b []byte) []byte {
	var out bytes.Buffer
	z := zlib.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

func brotliOf(b []byte) []byte {
	var out bytes.Buffer
	z := brotli.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

func zstdOf(b []byte) []byte {
	z, _ := zstd.NewWriter(nil)
	return z.EncodeAll(b, nil)
}

func base64Of(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) }

// lzOf compresses as lz-string does, without its dictionary: each unit is
// written in full the first time and by number after that.
func lzOf(b []byte) []byte {
	var bits []byte
	write := func(v, n int) {
		for k := range n {
			bits = append(bits, byte(v>>k&1))
		}
	}
	dict := map[byte]int{}
	size, width, enlarge := 4, 3, 4
	grow := func() {
		if enlarge--; enlarge == 0 {
			enlarge = 1 << width
			width++
		}
	}
	for i, c := range b { // ASCII only
		if i == 0 {
			write(0, 2)
			write(int(c), 8)
			dict[c] = 3
			continue
		}
		if code, ok := dict[c]; ok {
			write(code, width)
		} else {
			write(0, width)
			write(int(c), 8)
			dict[c] = size
			size++
			grow()
		}
		size++ // the phrase that a decoder makes of this unit and the next
		grow()
	}
	write(2, width)
	var out []byte
	for i := 0; i < len(bits); i += 6 {
		v := 0
		for k := range 6 {
			v <<= 1
			if i+k < len(bits) {
				v |= int(bits[i+k])
			}
		}
		out = append(out, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[v])
	}
	return append(out, '=')
}

const oneEvent = `{"event":"$ai_generation","uuid":"0192c0de-0000-7000-8000-000000000001","distinct_id":"user <1>","timestamp":"2026-11-21T11:59:30.5Z",
 "properties":{"token":"%s","$lib":"posthog-js","$ai_model":"gpt-4.1-mini","$ai_input_tokens":12,"$ai_input":[{"role":"user","content":"h\u00e9 ?+/&= \ud83d\ude00"}],"a":{"b":[1,2.50,null]}}}`

// TestRoutesAndEncodings sends every encoding that an SDK may use to every
// route that accepts it.
func TestRoutesAndEncodings(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	one := []byte(fmt.Sprintf(oneEvent, settings.def.Token))
	batch := []byte(fmt.Sprintf(`{"api_key":%q,"sent_at":"2026-11-21T12:00:00Z","batch":[%s]}`, settings.def.Token, one))
	shapes := map[string][]byte{
		"Single": one, "Batch": batch, "Array": []byte("[" + string(one) + "]"),
		"Data": []byte(fmt.Sprintf(`{"api_key":%q,"data":[%s]}`, settings.def.Token, one)), "Spaces": []byte("\n\t " + string(batch) + " \n"),
	}
	type request struct {
		method, query string
		body          []byte
		header        []string
	}
	form := func(fields ...string) []byte {
		v := url.Values{}
		for i := 0; i < len(fields); i += 2 {
			v.Set(fields[i], fields[i+1])
		}
		return []byte(v.Encode())
	}
	formType := []string{"Content-Type", "application/x-www-form-urlencoded"}
	post := func(b []byte, query string, header ...string) request { return request{"POST", query, b, header} }
	get := func(query url.Values) request { return request{"GET", query.Encode(), nil, nil} }
	encodings := map[string]func([]byte) request{
		"Plain":            func(b []byte) request { return post(b, "", "Content-Type", "application/json") },
		"PlainText":        func(b []byte) request { return post(b, "ip=1&ver=1.2.3", "Content-Type", "text/plain") },
		"GzipBoth":         func(b []byte) request { return post(gzipOf(b), "compression=gzip", "Content-Encoding", "gzip") },
		"GzipHeader":       func(b []byte) request { return post(gzipOf(b), "", "Content-Encoding", "gzip") },
		"GzipQuery":        func(b []byte) request { return post(gzipOf(b), "compression=gzip-js", "Content-Type", "text/plain") },
		"GzipUnsaid":       func(b []byte) request { return post(gzipOf(b), "compression=unknown") },
		"GzipFormType":     func(b []byte) request { return post(gzipOf(b), "compression=gzip-js", formType...) },
		"GzipDecodedOnWay": func(b []byte) request { return post(b, "compression=gzip", "Content-Encoding", "gzip") },
		"Deflate":          func(b []byte) request { return post(zlibOf(b), "", "Content-Encoding", "deflate") },
		"Brotli":           func(b []byte) request { return post(brotliOf(b), "", "Content-Encoding", "br") },
		"Zstd":             func(b []byte) request { return post(zstdOf(b), "", "Content-Encoding", "zstd") },
		"Base64":           func(b []byte) request { return post(base64Of(b), "compression=base64") },
		"Base64Unsaid":     func(b []byte) request { return post(base64Of(b), "") },
		"Base64OfGzip":     func(b []byte) request { return post(base64Of(gzipOf(b)), "compression=b64") },
		"LZ64":             func(b []byte) request { return post(lzOf(b), "compression=LZ64") },
		"LZString":         func(b []byte) request { return post(lzOf(b), "compression=lz-string") },
		"FormPlain":        func(b []byte) request { return post(form("data", string(b)), "", formType...) },
		"FormBase64": func(b []byte) request {
			return post(form("data", string(base64Of(b)), "compression", "base64", "ver", "1"), "", formType...)
		},
		"FormBase64Charset": func(b []byte) request {
			return post(form("data", string(base64Of(b))), "", "Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
		},
		"Base64OfGzipHeader": func(b []byte) request { return post(base64Of(gzipOf(b)), "", "Content-Encoding", "base64") },
		"LZ64Header":         func(b []byte) request { return post(lzOf(b), "", "Content-Encoding", "lz64") },
		"HeaderOfNobody":     func(b []byte) request { return post(b, "", "Content-Encoding", "x-mine") },
		"GzipHeaderOfNobody": func(b []byte) request { return post(gzipOf(b), "", "Content-Encoding", "x-mine") },
		"FormInGzip": func(b []byte) request {
			return post(gzipOf(form("data", string(base64Of(b)), "compression", "base64")), "", append([]string{"Content-Encoding", "gzip"}, formType...)...)
		},
		"PostQuery": func(b []byte) request { return post([]byte("not this"), url.Values{"data": {string(b)}}.Encode()) },
		"GetBase64OfGzip": func(b []byte) request {
			return get(url.Values{"data": {string(base64Of(gzipOf(b)))}, "compression": {"gzip"}})
		},
		"FormRawPlus": func(b []byte) request { return post([]byte("data="+string(base64Of(b))), "", formType...) },
		"FormLZ64": func(b []byte) request {
			return post(form("data", string(lzOf(b)), "compression", "lz64"), "", formType...)
		},
		"GetPlain": func(b []byte) request { return get(url.Values{"data": {string(b)}}) },
		"GetBase64": func(b []byte) request {
			return get(url.Values{"data": {string(base64Of(b))}, "compression": {"base64"}})
		},
		"GetRawPlus": func(b []byte) request { return request{"GET", "data=" + string(base64Of(b)), nil, nil} },
		"GetLZ64":    func(b []byte) request { return get(url.Values{"data": {string(lzOf(b))}, "compression": {"lz64"}}) },
	}
	for _, path := range []string{"/batch", "/i/v0/e", "/e", "/capture", "/track", "/engage", "/i/v0/ai/batch"} {
		for _, slash := range []string{"", "/"} {
			for shape, body := range shapes {
				for name, encode := range encodings {
					r := encode(body)
					if r.method == "GET" && path == "/i/v0/ai/batch" {
						continue
					}
					if !h.Handles(path + slash) {
						t.Fatalf("%s%s is not handled", path, slash)
					}
					k.reset()
					w := call(h, r.method, path+slash+"?"+r.query, r.body, r.header...)
					got := k.events(t)
					if w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"status":"Ok"}` || len(got) != 1 {
						t.Errorf("%s%s %s %s: %d %s, %d events", path, slash, shape, name, w.Code, w.Body, len(got))
						continue
					}
					e := got[0]
					if e.UUID != "0192c0de-0000-7000-8000-000000000001" || e.ProjectID != "default" || e.Source != event.SourceIngest || e.DistinctID != "user <1>" ||
						!e.Timestamp.Equal(now.Add(-29500*time.Millisecond)) || e.Usage.Input != event.Some[int64](12) || string(e.Properties["a"]) != `{"b":[1,2.50,null]}` ||
						!strings.Contains(string(e.Content.Input), `h\u00e9 ?+/&= \ud83d\ude00`) || e.Properties["token"] != nil {
						t.Errorf("%s%s %s %s: %+v\n%s", path, slash, shape, name, e, e.Content.Input)
					}
				}
			}
		}
	}
}

func TestLZGolden(t *testing.T) {
	b, err := os.ReadFile("testdata/lz.jsonl") // written by npm's lz-string 1.5.0
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var v struct{ LZ, Text string }
		decode(t, line, &v)
		got, err := ingest.LZDecompress([]byte(v.LZ), func(int) error { return nil })
		if err != nil || string(got) != v.Text {
			t.Errorf("%.40s: %q, %v; want %q", v.LZ, got, err, v.Text)
		}
	}
}

// parity are bodies that are sent to hedgerow and to the simulated PostHog;
// both must store the same.
var parity = []string{
	`{"api_key":"T","batch":[{"event":"e","distinct_id":"d"}]}`,
	`{"token":"T","event":"e","distinct_id":"d","timestamp":"2026-11-21T10:00:00+02:00","properties":{"$set":{"a":1},"$set_once":{"b":"2"}}}`,
	`{"token":"T","event":"e","distinct_id":"d","$set":{"a":1},"$set_once":{"b":null},"properties":{"$set":{"own":true}}}`,
	`{"api_key":"T","sent_at":"2026-11-21T11:00:00Z","batch":[{"event":"$identify","distinct_id":"d","timestamp":"2026-11-21T10:59:00Z","properties":{"$anon_distinct_id":"x","$set":{"email":"a@b.example"},"$session_id":"s"}}]}`,
	`{"api_key":"T","sent_at":"2026-11-21T11:00:00Z","batch":[{"event":"e","distinct_id":"d","timestamp":"2026-11-21T10:59:00Z","properties":{"$ignore_sent_at":true}}]}`,
	`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","offset":1500}]}`,
	`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","timestamp":"2027-11-21T10:59:00Z"}]}`,
	`{"api_key":"T","batch":[{"event":"$create_alias","distinct_id":"d","properties":{"alias":"x","distinct_id":"d"}}]}`,
	`[{"event":"$pageview","properties":{"token":"T","distinct_id":"d","$current_url":"https://e.example/?q=1#2"}}]`,
	`[{"event":"e","properties":{"token":"T","distinct_id":123456789012345678}}]`,
	`[{"event":"e","properties":{"token":"T","distinct_id":{"a":1}}}]`,
	`[{"event":"e","distinct_id":true,"$token":"T"}]`,
	`[{"event":"e","distinct_id":"a\u0000b","api_key":"T"}]`,
	`[{"event":"e","distinct_id":"` + strings.Repeat("é", 250) + `","api_key":"T"}]`,
	`{"api_key":"T","batch":[{"event":"$exception","distinct_id":"d","properties":{"$exception_list":[{"type":"Error","value":"boom","stacktrace":{"frames":[{"lineno":1}]}}],"$exception_level":"error"}}]}`,
	`{"api_key":"T","batch":[{"event":"$groupidentify","distinct_id":"d","properties":{"$group_type":"company","$group_key":"acme","$group_set":{"n":1.50}}}]}`,
	`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","properties":{"$groups":{"company":"acme","team":"a b"}}}]}`,
	`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","properties":{"$groups":{"company":5}}}]}`,
	`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","properties":{"$groups":{}}}]}`,
	`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","properties":{"$feature/a":true,"$feature/b":"v","$feature/c":null,"$feature/d":"true","$feature/":1,"$active_feature_flags":["a"]}}]}`,
	`{"api_key":"T","batch":[{"event":"llm_output_rated","distinct_id":"d","properties":{"surface":"Chat","environment":" padded ","task_type":7,"status":"Done & <dusted>","operation":"x","input_length":"12","$ai_latency":"fast","$ai_model":{"a":1}}}]}`,
	`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","properties":{"n":1e400,"big":123456789012345678901234567890,"f":1.0,"s":"\u2028\ud83d\ude00\/","null":null,"":1}}]}`,
	`{"api_key":"T","batch":[{"event":"first","event":"e","distinct_id":"no","distinct_id":"d","properties":{"a":1,"a":2}}]}`,
	`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","properties":null,"uuid":null,"timestamp":null}]}`,
	`{"api_key":"T","batch":[{"event":"e","uuid":"urn:uuid:0192C0DE-0000-7000-8000-00000000000A","distinct_id":"d","properties":{}}]}`,
	`{"api_key":"T","batch":[{"event":"$ai_span","distinct_id":"d","properties":{"$ai_trace_id":"t","$ai_span_id":"s","$ai_span_name":"n","$ai_input_state":{"a":1},"$ai_latency":0.25,"custom":[1]}}]}`,
}

// refusals are bodies that both reject.
var refusals = map[string]int{
	``: 400, `{`: 400, `[]`: 400, `{}`: 400, `{"api_key":"T","batch":[]}`: 400, `{"api_key":"T"}`: 400, `nonsense!`: 400, `"text"`: 400, `12`: 400, `null`: 400,
	`{"api_key":"T","batch":{}}`:                                                                      400,
	`{"api_key":"T","batch":[1]}`:                                                                     400,
	`{"api_key":"T","batch":[{"distinct_id":"d"}]}`:                                                   400,
	`{"api_key":"T","batch":[{"event":"","distinct_id":"d"}]}`:                                        400,
	`{"api_key":"T","batch":[{"event":7,"distinct_id":"d"}]}`:                                         400,
	`{"api_key":"T","batch":[{"event":"e"}]}`:                                                         400,
	`{"api_key":"T","batch":[{"event":"e","distinct_id":null}]}`:                                      400,
	`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","timestamp":"yesterday"}]}`:               400,
	`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","timestamp":5}]}`:                         400,
	`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","uuid":"x"}]}`:                            400,
	`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","properties":[]}]}`:                       400,
	`{"api_key":"T","sent_at":"x","batch":[{"event":"e","distinct_id":"d"}]}`:                         400,
	"{\"api_key\":\"T\",\"batch\":[{\"event\":\"\xff\",\"distinct_id\":\"d\"}]}":                      400,
	`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","properties":{"a":NaN}}]}`:                400,
	`{"batch":[{"event":"e","distinct_id":"d"}]}`:                                                     401,
	`[{"event":"e","distinct_id":"d","token":"T"},{"event":"e","distinct_id":"d","token":"phc_abc"}]`: 401,
	`{"api_key":"phx_personal","batch":[{"event":"e","distinct_id":"d"}]}`:                            401,
	`{"api_key":"` + strings.Repeat("x", 65) + `","batch":[{"event":"e","distinct_id":"d"}]}`:         401,
}

func TestParityWithPostHog(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	ph := simposthog.New(simposthog.Options{Projects: []simposthog.Project{{Name: "p", Token: posthogKey}}, Now: func() time.Time { return now }})
	for _, body := range parity {
		body := []byte(strings.ReplaceAll(body, `"T"`, `"`+posthogKey+`"`))
		k.reset()
		ph.Reset()
		got, want := call(h, "POST", "/batch/", body), call(ph, "POST", "/batch/", body)
		if got.Code != 200 || want.Code != 200 {
			t.Errorf("%s: status %d %s, PostHog's %d %s", body, got.Code, got.Body, want.Code, want.Body)
			continue
		}
		stored, sent := k.events(t), ph.Events()
		if len(stored) != 1 || len(sent) != 1 {
			t.Errorf("%s: %d events, PostHog has %d", body, len(stored), len(sent))
			continue
		}
		g, w := wireOf(t, stored[0]), wireOfPostHog(t, sent[0])
		if g.Name != w.Name || g.DistinctID != w.DistinctID || !g.Timestamp.Equal(w.Timestamp) {
			t.Errorf("%s:\n%s %q %v, PostHog has\n%s %q %v", body, g.Name, g.DistinctID, g.Timestamp, w.Name, w.DistinctID, w.Timestamp)
		}
		delete(g.Properties, event.Warnings) // PostHog replaces a time far in the future silently
		if d := differ(g.Properties, w.Properties); d != "" {
			t.Errorf("%s:\n%s", body, d)
		}
		if id, err := uuid.Parse(stored[0].UUID); err != nil || bytes.Contains(body, []byte("0192C0DE")) && stored[0].UUID != sent[0].UUID || !bytes.Contains(body, []byte("0192C0DE")) && id.Version() != 7 {
			t.Errorf("%s: uuid %s", body, stored[0].UUID)
		}
	}
	for body, status := range refusals {
		body := []byte(strings.ReplaceAll(body, `"T"`, `"`+posthogKey+`"`))
		k.reset()
		got, want := call(h, "POST", "/batch/", body), call(ph, "POST", "/batch/", body)
		if got.Code != status || want.Code != status || len(k.events(t)) > 0 {
			t.Errorf("%q: %d %s, PostHog %d %s; want %d", body, got.Code, got.Body, want.Code, want.Body, status)
		}
		if ct := got.Header().Get("Content-Type"); !strings.HasPrefix(ct, "text/plain") || got.Body.Len() < 10 {
			t.Errorf("%q: %s %q", body, ct, got.Body)
		}
	}
}

func batchOf(token string, events ...string) []byte {
	return []byte(`{"api_key":"` + token + `","batch":[` + strings.Join(events, ",") + `]}`)
}

func TestGoodEventsAreTakenAndBadOnesNamed(t *testing.T) {
	h, k := newHandler(t, ingest.Config{Limits: ingest.Limits{EventBytes: 1000}})
	good := `{"event":"ok","distinct_id":"d","uuid":"0192c0de-0000-7000-8000-000000000001"}`
	bad := `{"event":"bad","uuid":"0192c0de-0000-7000-8000-000000000002"}`
	big := `{"event":"big","distinct_id":"d","properties":{"a":"` + strings.Repeat("x", 1000) + `"}}`
	w := call(h, "POST", "/batch/", batchOf(settings.def.Token, good, bad, `17`, big, good))
	var response struct {
		Status   string
		Accepted int
		Rejected []struct {
			Index              int
			UUID, Event, Error string
		}
	}
	decode(t, w.Body.Bytes(), &response)
	if w.Code != 200 || response.Status != "Ok" || response.Accepted != 2 || len(response.Rejected) != 3 || len(k.events(t)) != 2 {
		t.Fatalf("%d %+v", w.Code, response)
	}
	for i, want := range []string{"1 0192c0de-0000-7000-8000-000000000002 bad event submitted without a distinct_id", "2   the event is not an object", "3  big maximum event size exceeded: the event has more than 1000 bytes"} {
		r := response.Rejected[i]
		if got := fmt.Sprintf("%d %s %s %s", r.Index, r.UUID, r.Event, r.Error); got != want {
			t.Errorf("rejected %q, want %q", got, want)
		}
	}
	if w := call(h, "POST", "/batch/", batchOf(settings.def.Token, big)); w.Code != 413 || !strings.HasPrefix(w.Body.String(), "maximum event size exceeded") {
		t.Errorf("one large event: %d %s", w.Code, w.Body)
	}
	if w := call(h, "POST", "/batch/", batchOf(settings.def.Token, bad, big)); w.Code != 400 || w.Body.String() != "no event was accepted\nevent 0: event submitted without a distinct_id\nevent 1: maximum event size exceeded: the event has more than 1000 bytes\n" {
		t.Errorf("only bad events: %d %s", w.Code, w.Body)
	}
}

func TestTokens(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	e := `{"event":"e","distinct_id":"d"}`
	for token, want := range map[string]string{
		settings.def.Token: "default", settings.bare.Token: settings.bare.ID, posthogKey: "default", settings.member: "default", settings.sender: "default",
		settings.viewer: "", disabledKey: "", "phc_hedgerow_unknown": "", personalKey: "", "hr_": "",
	} {
		k.reset()
		w := call(h, "POST", "/e/", batchOf(token, e))
		got := ""
		if events := k.events(t); len(events) == 1 {
			got = events[0].ProjectID
		}
		status := 401
		if token == settings.viewer {
			status = 403 // it is known, and lacks the scope
		}
		if got != want || want == "" && (w.Code != status || !strings.Contains(w.Body.String(), "API key is not valid")) || status == 403 && !strings.Contains(w.Body.String(), "scope ingest") {
			t.Errorf("%s: project %q (%d %s), want %q", token, got, w.Code, w.Body, want)
		}
		if strings.Contains(w.Body.String(), token) {
			t.Errorf("the response repeats the token: %s", w.Body)
		}
	}
}

func TestPropertyToken(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	for token, stays := range map[string]bool{posthogKey: true, settings.def.Token: false} {
		k.reset()
		call(h, "POST", "/e/", []byte(`[{"event":"e","properties":{"distinct_id":"d","token":"`+token+`","a":1}}]`))
		if got := k.events(t)[0].Properties["token"] != nil; got != stays {
			t.Errorf("properties.token there: %v, want %v", got, stays)
		}
	}
}

func TestSentAtOfTheQuery(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	body := batchOf(settings.def.Token, `{"event":"e","distinct_id":"d","timestamp":"2026-11-21T10:00:00Z"}`)
	sent := now.Add(-time.Hour)
	for query, want := range map[string]time.Time{
		fmt.Sprintf("_=%d", sent.UnixMilli()): now.Add(-time.Hour), // an hour of skew
		fmt.Sprintf("_=%d", sent.Unix()):      now.Add(-2 * time.Hour),
		"_=never":                             now.Add(-2 * time.Hour),
		"":                                    now.Add(-2 * time.Hour),
	} {
		k.reset()
		call(h, "POST", "/e/?"+query, body)
		if got := k.events(t)[0].Timestamp; !got.Equal(want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
}

func TestEngage(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	w := call(h, "POST", "/engage/", []byte(`{"$token":"`+settings.def.Token+`","$distinct_id":"d","$set":{"plan":"pro"}}`))
	got := k.events(t)
	if w.Code != 200 || len(got) != 1 || got[0].Name != "$identify" || got[0].DistinctID != "d" || string(got[0].Properties["$set"]) != `{"plan":"pro"}` {
		t.Errorf("%d %s: %+v", w.Code, w.Body, got)
	}
}

func TestBeaconCORSAndMethods(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	body := batchOf(settings.def.Token, `{"event":"e","distinct_id":"d"}`)
	if w := call(h, "POST", "/e/?beacon=1", body); w.Code != 204 || w.Body.Len() != 0 || len(k.events(t)) != 1 {
		t.Errorf("beacon: %d %q", w.Code, w.Body)
	}
	for _, path := range []string{"/batch/", "/i/v0/ai", "/i/v1/analytics/events", "/s/", "/flags/", "/decide/", "/array/x/config.js"} {
		w := call(h, "OPTIONS", path, nil, "Origin", "https://app.example", "Access-Control-Request-Headers", "content-type,x-a")
		for name, want := range map[string]string{"Access-Control-Allow-Origin": "https://app.example", "Access-Control-Allow-Credentials": "true", "Access-Control-Allow-Methods": "GET, POST, OPTIONS", "Access-Control-Allow-Headers": "content-type,x-a"} {
			if got := w.Header().Get(name); w.Code != 200 || got != want {
				t.Errorf("OPTIONS %s: %d, %s is %q, want %q", path, w.Code, name, got, want)
			}
		}
	}
	if w := call(h, "POST", "/e/", body, "Origin", "https://app.example"); w.Header().Get("Access-Control-Allow-Origin") != "https://app.example" {
		t.Error("the response to a POST has no CORS header")
	}
	for path, method := range map[string]string{"/batch": "PUT", "/i/v0/ai/batch": "GET", "/s": "DELETE", "/i/v0/ai": "GET", "/i/v1/analytics/events": "GET", "/flags": "PUT", "/flags/definitions": "POST"} {
		if w := call(h, method, path, body); w.Code != 405 || w.Header().Get("Allow") == "" {
			t.Errorf("%s %s: %d", method, path, w.Code)
		}
	}
	for _, path := range []string{"/", "/i/v0/ai/otel", "/v1/traces", "/batches", "/e/x", "/static/app.js", "/array/", "/array/x/other", "/api/v1/events", "/healthz", "/events"} {
		if h.Handles(path) {
			t.Errorf("%s is handled", path)
		}
	}
}

func TestReplayIsTakenAndForgotten(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	for _, path := range []string{"/s", "/s/", "/s/?compression=gzip-js", "/s/?beacon=1"} {
		want := 200
		if strings.Contains(path, "beacon") {
			want = 204
		}
		if w := call(h, "POST", path, bytes.Repeat([]byte("x"), 1<<20)); w.Code != want {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if len(k.events(t)) > 0 {
		t.Error("a recording was kept")
	}
}

// PostHog would have seen a public client's address.
func TestClientAddress(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	for _, c := range []struct{ forwarded, properties, want string }{
		{"", `{}`, ""},
		{"203.0.113.7, 10.0.0.1", `{}`, `"203.0.113.7"`},
		{"2001:4860::1", `{"$geoip_disable":false}`, `"2001:4860::1"`},
		{"203.0.113.7", `{"$geoip_disable":true}`, ""},
		{"203.0.113.7", `{"$ip":"198.51.100.1"}`, `"198.51.100.1"`},
		{"10.1.2.3", `{}`, ""},
		{"<script>", `{}`, ""},
	} {
		k.reset()
		call(h, "POST", "/e/", batchOf(settings.def.Token, `{"event":"e","distinct_id":"d","properties":`+c.properties+`}`), "X-Forwarded-For", c.forwarded)
		if got := string(k.events(t)[0].Properties["$ip"]); got != c.want {
			t.Errorf("%s %s: $ip %s, want %s", c.forwarded, c.properties, got, c.want)
		}
	}
}

// The client gets the journal's error.
func TestJournalFailures(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	body := batchOf(settings.def.Token, `{"event":"a","distinct_id":"d"}`, `{"event":"b","distinct_id":"d"}`)
	v1 := []byte(`{"created_at":"2026-11-21T12:00:00Z","batch":[{"event":"a","uuid":"0192c0de-0000-7000-8000-000000000001","distinct_id":"d","timestamp":"2026-11-21T12:00:00Z","options":{},"properties":{}}]}`)
	for code, want := range map[event.Code]int{event.CodeFull: 503, event.CodeUnavailable: 503, event.CodeTimeout: 503, event.CodeInternal: 503} {
		k.err = func(*event.Event) error { return event.NewError(code, "no", "", nil) }
		w := call(h, "POST", "/batch/", body)
		if w.Code != want || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d, Retry-After %q", code, w.Code, w.Header().Get("Retry-After"))
		}
		w = call(h, "POST", "/i/v1/analytics/events", v1, "Authorization", "Bearer "+settings.def.Token)
		var tag struct{ Error string }
		decode(t, w.Body.Bytes(), &tag)
		if w.Code != want || w.Header().Get("Retry-After") == "" || tag.Error != "service_unavailable" {
			t.Errorf("v1 %s: %d %+v", code, w.Code, tag)
		}
	}
	// An event that cannot be stored does not affect the others.
	k.err = func(e *event.Event) error {
		if e.Name == "b" {
			return event.NewError(event.CodeTooLarge, "the event is too large for the journal", "", nil)
		}
		return nil
	}
	k.reset()
	w := call(h, "POST", "/batch/", body)
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"index":1`) || len(k.events(t)) == 0 || k.events(t)[0].Name != "a" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestMetricsAndLogHoldNoContent(t *testing.T) {
	// Responses and log lines contain positions and names, never values.
	h, _ := newHandler(t, ingest.Config{})
	secret := "the wren nests in the blackthorn"
	for _, body := range []string{
		`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","timestamp":"` + secret + `"}]}`,
		`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","uuid":"` + secret + `"}]} `,
		`{"api_key":"T","batch":[{"event":"e","distinct_id":"d","properties":"` + secret + `"}]}`,
		`{"api_key":"T","batch":["` + secret + `]}`,
		`{"api_key":"` + secret + `","batch":[{"event":"e","distinct_id":"d"}]}`,
	} {
		w := call(h, "POST", "/batch/", []byte(strings.ReplaceAll(body, `"T"`, `"`+settings.def.Token+`"`)))
		if w.Code < 400 || strings.Contains(w.Body.String(), "wren") {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
}

// Events without uuids get the same uuids when a client sends them again, and
// equal events in one batch get different ones.
func TestDerivedUUID(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	send := func(body string) []string {
		t.Helper()
		before := len(k.events(t))
		if w := call(h, "POST", "/batch/", []byte(body)); w.Code != 200 {
			t.Fatal(w.Code, w.Body)
		}
		var ids []string
		for _, e := range k.events(t)[before:] {
			ids = append(ids, e.UUID)
		}
		return ids
	}
	batch := func(sentAt string, events ...string) string {
		return `{"api_key":"` + settings.def.Token + `"` + sentAt + `,"batch":[` + strings.Join(events, ",") + `]}`
	}
	const (
		a      = `{"event":"$identify","distinct_id":"u1","timestamp":"2026-11-21T11:00:00.123Z"}`
		b      = `{"event":"$identify","distinct_id":"u2","timestamp":"2026-11-21T11:00:00.123Z"}`
		click  = `{"event":"click","distinct_id":"u1"}`
		sentAt = `,"sent_at":"2026-11-21T11:59:58Z"`
		later  = `,"sent_at":"2026-11-21T11:59:59Z"`
	)
	first := send(batch(sentAt, a, b, a, click))
	if len(slices.Compact(slices.Sorted(slices.Values(first)))) != 4 {
		t.Fatalf("four events have the uuids %v", first)
	}
	if again := send(batch(sentAt, a, b, a, click)); !slices.Equal(again, first) {
		t.Errorf("uuids %v after a retry, want %v", again, first)
	}
	if again := send(batch(later, click, b, a, a)); again[0] == first[3] || again[1] != first[1] || again[2] != first[0] || again[3] != first[2] {
		t.Errorf("uuids %v in another batch; the first were %v", again, first)
	}
	if x, y := send(batch("", click)), send(batch("", click)); x[0] == y[0] {
		t.Error("two clicks without a timestamp have the same uuid")
	}
	for _, id := range first {
		if u := uuid.MustParse(id); u.Version() != 7 {
			t.Errorf("%s is of version %d", id, u.Version())
		}
	}
	other := strings.ReplaceAll(batch(sentAt, a), settings.def.Token, settings.bare.Token)
	if got := send(other); got[0] == first[0] {
		t.Error("another project's event has the same uuid")
	}
}

// An import of old data keeps its times and the historical_migration mark.
func TestHistoricalMigration(t *testing.T) {
	const event = `{"event":"old","uuid":"0192c0de-0000-7000-8000-000000000009","distinct_id":"u1","timestamp":"2019-01-02T03:04:05Z"`
	for _, tt := range []struct {
		route, flag string
		want        time.Time
		historical  bool
	}{
		{"/batch/", `,"historical_migration":true`, time.Date(2019, 1, 2, 3, 4, 5, 0, time.UTC), true},
		{"/batch/", `,"historical_migration":false`, time.Date(2019, 1, 2, 4, 4, 5, 0, time.UTC), false},
		{"/batch/", ``, time.Date(2019, 1, 2, 4, 4, 5, 0, time.UTC), false},
		{"/i/v1/analytics/events", `,"historical_migration":true`, time.Date(2019, 1, 2, 3, 4, 5, 0, time.UTC), true},
		{"/i/v1/analytics/events", ``, time.Date(2019, 1, 2, 4, 4, 5, 0, time.UTC), false},
	} {
		h, k := newHandler(t, ingest.Config{})
		sent := now.Add(-time.Hour).Format(time.RFC3339)
		var w *httptest.ResponseRecorder
		if tt.route == "/batch/" {
			w = call(h, "POST", tt.route, []byte(`{"api_key":"`+settings.def.Token+`","sent_at":"`+sent+`"`+tt.flag+`,"batch":[`+event+`}]}`))
		} else {
			w = call(h, "POST", tt.route, []byte(`{"created_at":"`+sent+`"`+tt.flag+`,"batch":[`+event+`,"options":{},"properties":{}}]}`), "Authorization", "Bearer "+settings.def.Token, "PostHog-Request-Timestamp", sent)
		}
		if w.Code != 200 || len(k.events(t)) != 1 {
			t.Fatal(tt.route, w.Code, w.Body)
		}
		if e := k.events(t)[0]; !e.Timestamp.Equal(tt.want) || e.Historical != tt.historical {
			t.Errorf("%s %s: %v, historical %v", tt.route, tt.flag, e.Timestamp, e.Historical)
		}
	}
}
