package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/httpbody"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
)

// peak returns how much more memory f uses at most, sampled.
func peak(f func()) int64 {
	runtime.GC()
	heap := func() int64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s) // does not stop the world, unlike runtime.ReadMemStats
		return int64(s[0].Value.Uint64())
	}
	before, most := heap(), int64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				most = max(most, heap()-before)
			}
		}
	}()
	f()
	close(stop)
	<-done
	return most
}

func nested(depth int) string {
	return strings.Repeat(`{"a":[`, depth/2) + strings.Repeat(`]}`, depth/2)
}

// TestHostileBodies checks that every body gets the right status and message,
// within bounded memory, and that the next request works.
func TestHostileBodies(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	token := settings.def.Token
	good := batchOf(token, `{"event":"e","distinct_id":"d"}`)
	with := func(properties string) []byte {
		return batchOf(token, `{"event":"e","distinct_id":"d","properties":`+properties+`}`)
	}
	var bomb []byte
	{
		var b bytes.Buffer
		b.WriteString(`{"api_key":"` + token + `","batch":[{"event":"e","distinct_id":"d","properties":{"a":"`)
		b.Write(bytes.Repeat([]byte("a"), 60<<20))
		bomb = b.Bytes()
	}
	bombs := map[string][]byte{"gzip": gzipOf(bomb), "deflate": zlibOf(bomb), "br": brotliOf(bomb), "zstd": zstdOf(bomb)}
	bomb = nil
	lzBomb, err := os.ReadFile("testdata/bomb.lz64") // 60 MB of one letter, by npm's lz-string
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		body   []byte
		query  string
		header []string
		status int
		says   string
	}{
		{"Bomb gzip", bombs["gzip"], "compression=gzip", nil, 413, "the decompressed body has more than 52428800 bytes"},
		{"Bomb gzip in base64", base64Of(bombs["gzip"]), "", nil, 413, "maximum event size exceeded"},
		{"Bomb deflate", bombs["deflate"], "", []string{"Content-Encoding", "deflate"}, 413, "maximum event size exceeded"},
		{"Bomb br", bombs["br"], "", []string{"Content-Encoding", "br"}, 413, "maximum event size exceeded"},
		{"Bomb zstd", bombs["zstd"], "", nil, 413, "maximum event size exceeded"},
		{"Bomb lz64", lzBomb, "compression=lz64", nil, 413, "maximum event size exceeded"},
		{"21 MB", with(`"` + strings.Repeat("x", 21<<20) + `"`), "", nil, 413, "the request body has more than 20971520 bytes"},
		{"9 MB event", with(`{"a":"` + strings.Repeat("x", 9<<20) + `"}`), "", nil, 413, "the event has more than 8388608 bytes"},
		{"Ten million members", with(`{` + strings.TrimSuffix(strings.Repeat(`"":1,`, 3_500_000), ",") + `}`), "", nil, 413, "memory"},
		{"A million events", batchOf(token, strings.TrimSuffix(strings.Repeat(`{},`, 1_000_000), ",")), "", nil, 413, "at most 10000 events in one request"},
		{"100 levels", with(nested(100)), "", nil, 200, ""},
		{"1000 levels", with(nested(1000)), "", nil, 400, "nested deeper than 128 levels"},
		{"A million levels", with(strings.Repeat(`[`, 1_000_000)), "", nil, 400, "nested deeper than 128 levels"},
		{"Invalid UTF-8", with("{\"a\":\"\xc3\x28\"}"), "", nil, 400, "not valid UTF-8 (byte "},
		{"Lone surrogate", with(`{"a":"x\ud800y\udc00"}`), "", nil, 200, ""},
		{"Duplicate keys", with(`{"a":1,"a":2}`), "", nil, 200, ""},
		{"NaN", with(`{"a":NaN}`), "", nil, 400, "malformed JSON at byte"},
		{"Infinity", with(`{"a":-Infinity}`), "", nil, 400, "malformed JSON at byte"},
		{"Control character", with("{\"a\":\"\x01\"}"), "", nil, 400, "control character"},
		{"Cut JSON", good[:len(good)-3], "", nil, 400, "ends too early"},
		{"Trailing", append(bytes.Clone(good), "{}"...), "", nil, 400, "something follows"},
		{"Cut gzip", gzipOf(good)[:40], "", nil, 400, "failed to decode gzip data: unexpected end"},
		{"Damaged gzip", append([]byte{0x1f, 0x8b, 8, 0}, bytes.Repeat([]byte{0xff}, 50)...), "", nil, 400, "failed to decode gzip data"},
		{"Cut deflate", zlibOf(good)[:20], "", []string{"Content-Encoding", "deflate"}, 400, "failed to decode deflate data"},
		{"Cut brotli", brotliOf(good)[:20], "", []string{"Content-Encoding", "br"}, 400, "failed to decode br data"},
		{"Cut zstd", zstdOf(good)[:20], "", nil, 400, "failed to decode zstd data"},
		{"Damaged lz64", []byte("N4IgpgbmB2AuIC4Q"), "compression=lz64", nil, 400, "failed to decode lz64 data"},
		{"Not lz64", []byte("!!!!"), "compression=lz64", nil, 400, "failed to decode lz64 data"},
		{"Form without data", []byte("a=1&b=2"), "", []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, "there is no field"},
		{"Form escape", []byte("data=%zz"), "", []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, "broken escape"},
		{"JSON as form", good, "", []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, "there is no field"},
		{"Two encodings", zlibOf(good), "", []string{"Content-Encoding", "compress, deflate"}, 415, "use gzip, deflate, br or zstd"},
		{"Empty", nil, "", nil, 400, "the body is empty"},
		{"Space", []byte(" \n"), "", nil, 400, "the body is empty"},
		{"Base64 of base64 of base64 of base64", base64Of(base64Of(base64Of(base64Of(good)))), "", nil, 400, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			k.reset()
			var w *httptest.ResponseRecorder
			used := peak(func() { w = call(h, "POST", "/batch/?"+c.query, c.body, c.header...) })
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) || w.Body.Len() > 300 {
				t.Errorf("%d %.400s, want %d and %q", w.Code, w.Body, c.status, c.says)
			}
			if used > 300<<20 {
				t.Errorf("took %d MiB", used>>20)
			}
			if n := len(k.events(t)); (n == 1) != (c.status == 200) {
				t.Errorf("%d events kept", n)
			}
			if c.name == "Lone surrogate" {
				if got := string(k.events(t)[0].Properties["a"]); got != `"x\ufffdy\ufffd"` {
					t.Errorf("kept %s", got)
				}
			}
			if w := call(h, "POST", "/batch/", good); w.Code != 200 {
				t.Errorf("the next request: %d %s", w.Code, w.Body)
			}
		})
	}
	if held := ingest.Held(h); held != 0 {
		t.Errorf("%d bytes were not released", held)
	}
}

// Too many large bodies at a time get 503 rather than killing the process.
func TestMemoryIsBounded(t *testing.T) {
	release := make(chan struct{})
	h, k := newHandler(t, ingest.Config{Limits: ingest.Limits{Limits: httpbody.Limits{Memory: 64 << 20}}})
	k.err = func(*event.Event) error { <-release; return nil }
	body := gzipOf(batchOf(settings.def.Token, `{"event":"e","distinct_id":"d","properties":{"a":"`+strings.Repeat("x", 5<<20)+`"}}`))
	var mu sync.Mutex
	codes := map[int]int{}
	var wg sync.WaitGroup
	started := make(chan struct{}, 40)
	for range 40 {
		wg.Go(func() {
			w := call(h, "POST", "/batch/", body)
			mu.Lock()
			defer mu.Unlock()
			codes[w.Code]++
			if w.Code == 503 && w.Header().Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
			started <- struct{}{}
		})
	}
	<-started // one has been refused, since none can be finished yet
	close(release)
	wg.Wait()
	if codes[200] == 0 || codes[503] == 0 || codes[200]+codes[503] != 40 {
		t.Errorf("answers %v", codes)
	}
	if held := ingest.Held(h); held != 0 {
		t.Errorf("%d bytes were not released", held)
	}
	if w := call(h, "POST", "/batch/", body); w.Code != 200 {
		t.Errorf("afterwards: %d", w.Code)
	}
}

// A body that does not arrive is abandoned, and the server keeps running.
func TestStalledBody(t *testing.T) {
	h, _ := newHandler(t, ingest.Config{Limits: ingest.Limits{Limits: httpbody.Limits{Timeout: 50 * time.Millisecond}}})
	s := httptest.NewServer(h)
	defer s.Close()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /batch/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{\"api")
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	response, err := io.ReadAll(c)
	if err != nil || !bytes.HasPrefix(response, []byte("HTTP/1.1 408")) {
		t.Errorf("%v %s", err, response)
	}
	// And a client that disconnects halfway.
	if c, err = net.Dial("tcp", s.Listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST /batch/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{\"api")
	c.Close()
	res, err := http.Post(s.URL+"/batch/", "application/json", bytes.NewReader(batchOf(settings.def.Token, `{"event":"e","distinct_id":"d"}`)))
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	res.Body.Close()
}

// A client that has disconnected gets no response, and in particular no
// success.
func TestClientGone(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	k.err = func(*event.Event) error { cancel(); return errors.New("canceled") }
	r := httptest.NewRequestWithContext(ctx, "POST", "/batch/", bytes.NewReader(batchOf(settings.def.Token, `{"event":"e","distinct_id":"d"}`)))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code < 500 {
		t.Errorf("status %d", w.Code)
	}
}

func valid(b []byte) bool { return utf8.Valid(b) && json.Valid(b) }

func FuzzCheck(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2.5e+3,true,false,null,"\u00e9\ud83d\ude00\ud800"]}`, ` [ ] `, `{"a":{}}`, `{"a":1,}`, `[1,]`, `01`, `1.`, `"\x"`, nested(128), nested(130), "\"\xff\"", `-`, `{"a" 1}`, `tru`, `"\u12g4"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.Clone(b)
		_, err := ingest.Check(b)
		if err != nil && strings.Contains(err.Error(), "nested") {
			return
		}
		if (err == nil) != valid(in) {
			t.Fatalf("%q: %v, encoding/json: %v", in, err, valid(in))
		}
		if err != nil {
			return
		}
		if !valid(b) {
			t.Fatalf("%q became invalid: %q", in, b)
		}
		var was, is any
		if json.Unmarshal(in, &was) == nil && json.Unmarshal(b, &is) == nil {
			x, _ := json.Marshal(was)
			y, _ := json.Marshal(is)
			if !bytes.Equal(x, y) {
				t.Fatalf("%q became %q", in, b)
			}
		}
		if got, want := ingest.WalkObject(b), objectOf(in); (want != nil) != (got != nil) && want != nil {
			t.Fatalf("%q: members %v, want %v", in, got, want)
		} else if want != nil {
			for key, v := range want {
				x, y := new(bytes.Buffer), new(bytes.Buffer)
				_ = json.Compact(x, v)
				_ = json.Compact(y, got[key])
				if strings.ContainsRune(key, utf8.RuneError) || bytes.Contains(in, []byte(`\u`)) {
					continue
				}
				if x.String() != y.String() {
					t.Fatalf("%q: member %q is %q, want %q", in, key, y, x)
				}
			}
			if len(got) != len(want) && !bytes.Contains(in, []byte(`\`)) {
				t.Fatalf("%q: %d members, want %d", in, len(got), len(want))
			}
		}
	})
}

func objectOf(b []byte) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(b, &m) != nil {
		return nil
	}
	return m
}

func FuzzLZ(f *testing.F) {
	f.Add([]byte("N4XyA==="))
	f.Add(lzOf([]byte(`{"a":1}`)))
	f.Add([]byte("Q==="))
	f.Fuzz(func(t *testing.T, b []byte) {
		var held int
		out, err := ingest.LZDecompress(b, func(n int) error {
			if held += n; held > 32<<20 {
				return errors.New("enough")
			}
			return nil
		})
		if err == nil && (!utf8.Valid(out) || len(out) > held+16) {
			t.Fatalf("%d bytes for %d held", len(out), held)
		}
	})
}

// fuzzHandler sends b in every encoding of a body, and checks invariants of the
// response.
func fuzzHandler(t *testing.T, h http.Handler, k *kept, method, target string, b []byte, header ...string) {
	t.Helper()
	k.reset()
	w := call(h, method, target, b, header...)
	switch w.Code {
	case 200, 204:
	case 400, 401, 413, 415:
		if len(k.events(t)) > 0 {
			t.Fatalf("status %d, but %d events were stored", w.Code, len(k.events(t)))
		}
	default:
		t.Fatalf("status %d %s", w.Code, w.Body)
	}
	if !utf8.Valid(w.Body.Bytes()) {
		t.Fatalf("answer %q", w.Body)
	}
	for _, e := range k.events(t) { // decoding checks that each is a valid frame
		if _, err := e.MarshalPostHog(event.Wire{}); err != nil {
			t.Fatalf("%v for %q", err, b)
		}
	}
	if held := ingest.Held(h.(*ingest.Handler)); held != 0 {
		t.Fatalf("%d bytes were not released", held)
	}
}

func FuzzV0(f *testing.F) {
	h, k := newHandler(f, ingest.Config{})
	for _, body := range parity {
		f.Add([]byte(strings.ReplaceAll(body, `"T"`, `"`+posthogKey+`"`)), uint8(0))
	}
	for body := range refusals {
		f.Add([]byte(strings.ReplaceAll(body, `"T"`, `"`+posthogKey+`"`)), uint8(1))
	}
	body := batchOf(posthogKey, `{"event":"$ai_generation","distinct_id":"d","properties":{"$ai_input":[]}}`)
	f.Add(batchOf(posthogKey, `{"event":"$ai_generation","distinct_id":"d","properties":{"$ai_usage":{"cost":"0.1","prompt_tokens_details":[{"modality":"AUDIO","tokenCount":1}],"rawUsage":{"usage":{"raw":{"cacheTokensDetails":{"audioTokens":2}}}}}}}`), uint8(3))
	for i, b := range [][]byte{body, gzipOf(body), zlibOf(body), brotliOf(body), zstdOf(body), base64Of(body), lzOf(body), []byte("data=" + string(base64Of(body)))} {
		f.Add(b, uint8(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, how uint8) {
		targets := []string{"/batch/", "/e", "/engage/?compression=gzip", "/i/v0/ai/batch/", "/track?beacon=1", "/capture?compression=base64", "/i/v0/e/?compression=lz64&_=1795262400000", "/e/"}
		headers := [][]string{nil, {"Content-Encoding", "gzip"}, {"Content-Encoding", "deflate"}, {"Content-Encoding", "br"}, {"Content-Encoding", "zstd"}, nil, nil, {"Content-Type", "application/x-www-form-urlencoded"}}
		i := int(how) % len(targets)
		fuzzHandler(t, h, k, "POST", targets[i], b, headers[i]...)
	})
}

// FuzzHints fuzzes the encoding that a request declares in the query, the
// header and the form.
func FuzzHints(f *testing.F) {
	h, k := newHandler(f, ingest.Config{})
	body := batchOf(posthogKey, `{"event":"e","distinct_id":"d"}`)
	f.Add(body, "", "", "x-mine", "application/json")
	f.Add(lzOf(body), "", "", "lz64", "text/plain")
	f.Add([]byte("data="+string(base64Of(gzipOf(body)))+"&compression=gzip-js"), "", "", "", "application/x-www-form-urlencoded")
	f.Add([]byte(nil), string(base64Of(body)), "base64", "", "")
	f.Add([]byte(nil), string(lzOf(body)), "lz-string", "", "")
	f.Fuzz(func(t *testing.T, b []byte, data, compression, encoding, contentType string) {
		method := "POST"
		if len(b) == 0 {
			method = "GET"
		}
		query := url.Values{"data": {data}, "compression": {compression}}
		fuzzHandler(t, h, k, method, "/e/?"+query.Encode(), b, "Content-Encoding", encoding, "Content-Type", contentType)
	})
}

// FuzzRelay fuzzes the responses of PostHog.
func FuzzRelay(f *testing.F) {
	u := &upstream{}
	at := now
	h, _ := newHandler(f, ingest.Config{Flags: u, Now: func() time.Time { return at }, OwnFlags: func(string) []flag.Definition {
		return []flag.Definition{flag.Split("own", 50, []flag.Variant{{Key: "a", Rollout: 100}})}
	}})
	f.Add(200, `{"flags":{"a":{"key":"a","enabled":true}},"quotaLimited":["feature_flags"],"sessionRecording":{},"token":"`+posthogKey+`"}`)
	f.Add(200, `{"featureFlags":["a"],"featureFlagPayloads":{}}`)
	f.Add(200, `{"featureFlags":{"a":"b"},"hasFeatureFlags":false,"quota_limited":null}`)
	f.Add(200, `{"flags":[{"id":1,"key":"own"},null,5],"cohorts":{}}`)
	f.Add(400, `{"detail":"no"}`)
	f.Fuzz(func(t *testing.T, status int, response string) {
		if status < 200 || status > 599 {
			return
		}
		at = at.Add(time.Hour + time.Minute) // longer than anything is cached
		u.says(status, response)
		u.asked, u.bodies = nil, nil
		for _, target := range []string{"/flags/?v=2", "/flags/?v=2&config=true", "/decide/?v=3", "/array/" + settings.def.Token + "/config", "/flags/definitions?token=" + settings.def.Token, "/api/surveys/?token=" + settings.def.Token} {
			method, body := "GET", []byte(nil)
			if strings.Contains(target, "v=") {
				method, body = "POST", []byte(`{"token":"`+settings.def.Token+`","distinct_id":"d"}`)
			}
			w := call(h, method, target, body, "Authorization", "Bearer phx_own")
			if w.Code == 200 && !json.Valid(w.Body.Bytes()) || w.Code >= 500 && method == "POST" {
				t.Fatalf("%s: %d %s", target, w.Code, w.Body)
			}
		}
	})
}

func FuzzV1(f *testing.F) {
	h, k := newHandler(f, ingest.Config{})
	f.Add(v1Body(v1Event(id1, `,"options":{"cookieless_mode":1},"session_id":"s","properties":{"$ai_model":"x"}`), v1Event("x", "")), "gzip")
	f.Add(gzipOf(v1Body(v1Event(id1, ""))), "gzip")
	f.Add(brotliOf(v1Body(v1Event(id1, ""))), "br")
	f.Add(zlibOf(v1Body(v1Event(id1, ""))), "deflate")
	f.Fuzz(func(t *testing.T, b []byte, encoding string) {
		fuzzHandler(t, h, k, "POST", "/i/v1/analytics/events", b, "Authorization", "Bearer "+settings.def.Token, "Content-Encoding", encoding)
	})
}

func FuzzMultipart(f *testing.F) {
	h, k := newHandler(f, ingest.Config{})
	const boundary = "b"
	f.Add([]byte("--b\r\nContent-Disposition: form-data; name=\"event\"\r\n\r\n{\"event\":\"$ai_trace\",\"uuid\":\"" + id1 + "\",\"distinct_id\":\"d\"}\r\n--b\r\nContent-Disposition: form-data; name=\"event.properties\"\r\n\r\n{\"$ai_model\":\"m\"}\r\n--b--\r\n"))
	f.Add([]byte("--b--"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzHandler(t, h, k, "POST", "/i/v0/ai", b, "Authorization", "Bearer "+settings.def.Token, "Content-Type", "multipart/form-data; boundary="+boundary)
	})
}

func FuzzFlags(f *testing.F) {
	h, k := newHandler(f, ingest.Config{})
	f.Add([]byte(`{"token":"`+settings.bare.Token+`","distinct_id":"d"}`), "v=2")
	f.Add([]byte("data="+string(base64Of([]byte(`{"token":"`+settings.bare.Token+`"}`)))), "v=3&compression=base64")
	f.Fuzz(func(t *testing.T, b []byte, query string) {
		r := httptest.NewRequest("POST", "/flags/", bytes.NewReader(b))
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 || !json.Valid(w.Body.Bytes()) || len(k.events(t)) > 0 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}

// A valid body that is cut off and continues with random bytes, as a broken
// proxy may produce.
func TestCutAnywhere(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	body := []byte(fmt.Sprintf(oneEvent, settings.def.Token))
	r := rand.New(rand.NewPCG(1, 2))
	for _, b := range [][]byte{body, gzipOf(body), brotliOf(body), zstdOf(body), lzOf(body), base64Of(body)} {
		for cut := range len(b) {
			k.reset()
			cutBody := bytes.Clone(b[:cut])
			if cut > 0 && cut%3 == 0 {
				cutBody[r.IntN(cut)] ^= byte(1 + r.IntN(255))
			}
			query := ""
			if b[0] == 'N' {
				query = "?compression=lz64"
			}
			if w := call(h, "POST", "/e/"+query, cutBody); w.Code == 200 && len(k.events(t)) != 1 || w.Code >= 500 {
				t.Errorf("cut at %d: %d %s", cut, w.Code, w.Body)
			}
		}
	}
}
