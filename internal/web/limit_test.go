package web

import (
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(3, time.Minute, time.Now)
		for i := range 3 {
			if left, wait := l.take("a"); wait != 0 || left != 2-i {
				t.Fatalf("try %d: %d left, wait %v", i, left, wait)
			}
			time.Sleep(10 * time.Second)
		}
		if _, wait := l.take("a"); wait != 30*time.Second {
			t.Errorf("wait %v, want the rest of the window of the first try", wait)
		}
		if _, wait := l.take("b"); wait != 0 {
			t.Errorf("another key waits %v", wait)
		}
		time.Sleep(30 * time.Second)
		if left, wait := l.take("a"); wait != 0 || left != 0 {
			t.Errorf("after the first try has aged: %d left, wait %v", left, wait)
		}
		if _, wait := l.take("a"); wait != 10*time.Second {
			t.Errorf("wait %v, want 10 s: the window slides", wait)
		}
		l.giveBack("a")
		if _, wait := l.take("a"); wait != 0 {
			t.Errorf("wait %v after one was given back", wait)
		}
		l.forget("a")
		if left, _ := l.take("a"); left != 2 {
			t.Errorf("%d left after forgetting", left)
		}
	})
}

// TestLimiterAtOnce counts tries before they are made: of many at the same
// moment no more pass than of many in a row.
func TestLimiterAtOnce(t *testing.T) {
	l := newLimiter(10, time.Minute, time.Now)
	var passed atomic.Int32
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if _, wait := l.take("a"); wait == 0 {
				passed.Add(1)
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n != 10 {
		t.Errorf("%d passed, want 10", n)
	}
}

// TestLimiterMemory bounds the keys; those that are still in use are kept.
func TestLimiterMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, time.Minute, time.Now)
		for i := range limiterKeys + 100 {
			l.take(strconv.Itoa(i))
			if i%1000 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		if n := len(l.tries); n > limiterKeys {
			t.Errorf("%d keys, bound %d", n, limiterKeys)
		}
		if _, wait := l.take(strconv.Itoa(limiterKeys + 99)); wait == 0 {
			t.Error("the newest key was forgotten")
		}
		time.Sleep(time.Minute)
		l.take("after")
		if n := len(l.tries); n != 1 {
			t.Errorf("%d keys after all have aged, want 1", n)
		}
	})
}

func TestAddress(t *testing.T) {
	s := &Web{c: Config{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	for _, c := range []struct{ peer, forwarded, want string }{
		{"203.0.113.9:1", "", "203.0.113.9"},
		{"203.0.113.9:1", "198.51.100.1", "203.0.113.9"}, // says who? not a proxy of ours
		{"127.0.0.1:1", "198.51.100.1", "198.51.100.1"},
		{"[::1]:1", "6.6.6.6, 198.51.100.1", "198.51.100.1"}, // what the caller wrote itself stands on the left
		{"127.0.0.1:1", "6.6.6.6, 198.51.100.1, 10.1.2.3", "198.51.100.1"},
		{"127.0.0.1:1", "nonsense", "127.0.0.1"},
		{"127.0.0.1:1", "", "127.0.0.1"},
		{"[2001:db8:1:2:3:4:5:6]:1", "", "2001:db8:1:2::/64"},
		{"[::ffff:203.0.113.9]:1", "", "203.0.113.9"},
		{"@", "", "@"},
	} {
		r := httptest.NewRequest("POST", "/sign-in", nil)
		r.RemoteAddr = c.peer
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := s.address(r); got != c.want {
			t.Errorf("%s, forwarded for %q: %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
}

func TestSafeNext(t *testing.T) {
	for next, want := range map[string]string{
		"/p/default/events?model=x": "/p/default/events?model=x", "": "/", "events": "/", "https://evil.example/": "/", "//evil.example": "/",
		`/\evil.example`: "/", "/\t/evil.example": "/", "javascript:alert(1)": "/", "/sign-in?token=x": "/", "/traces/a%20b": "/traces/a%20b",
	} {
		if got := safeNext(next); got != want {
			t.Errorf("after signing in %q leads to %q, want %q", next, got, want)
		}
	}
}

// TestAssets serves what esbuild has made, and does without where it made nothing.
func TestAssets(t *testing.T) {
	if a := loadAssets(fstest.MapFS{"dist/.gitkeep": {}}); a.App != "" {
		t.Errorf("a script without one: %q", a.App)
	}
	a := loadAssets(fstest.MapFS{"dist/app.js": {Data: []byte("let a")}, "dist/chunk-X.js": {Data: []byte("let bbbbbbbbbbbb")}, "dist/chunk-X.js.br": {Data: []byte("as br")}, "dist/chunk-X.js.gz": {Data: []byte("as gzip")}, "dist/.gitkeep": {}})
	other := loadAssets(fstest.MapFS{"dist/app.js": {Data: []byte("let c")}})
	if a.App == "" || a.App == other.App {
		t.Errorf("URLs %q and %q, want one for each content", a.App, other.App)
	}
	for _, c := range []struct {
		url, cache string
		status     int
	}{
		{a.App, "public, max-age=31536000, immutable", 200}, {"/assets/chunk-X.js", "public, max-age=31536000, immutable", 200}, {"/assets/app.js", "", 200},
		{a.Style, "public, max-age=31536000, immutable", 200},
		{"/assets/.gitkeep", "", 404}, {"/assets/chunk-X.js.br", "", 404}, {"/static/../web.go", "", 404}, {"/assets/", "", 404}, {"/assets/none.js", "", 404}, {"/assets/../web.go", "", 404},
	} {
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequest("GET", c.url, nil))
		if w.Code != c.status || w.Header().Get("Cache-Control") != c.cache {
			t.Errorf("%s: %d, Cache-Control %q", c.url, w.Code, w.Header().Get("Cache-Control"))
		}
		kind := "text/javascript; charset=utf-8"
		if c.url == a.Style {
			kind = "text/css; charset=utf-8"
		}
		if c.status == 200 && w.Header().Get("Content-Type") != kind {
			t.Errorf("%s is %q", c.url, w.Header().Get("Content-Type"))
		}
	}
}

// TestAssetCodings sends the shortest form that the browser takes.
func TestAssetCodings(t *testing.T) {
	a := loadAssets(fstest.MapFS{"dist/x.js": {Data: []byte("a long script")}, "dist/x.js.br": {Data: []byte("as br")}, "dist/x.js.gz": {Data: []byte("as gzip")}})
	for accept, want := range map[string]string{
		"": "a long script", "gzip": "as gzip", "gzip, deflate, br, zstd": "as br", "GZIP;q=0.5": "as gzip", "br;q=0, gzip": "as gzip", "br; q=0.0": "a long script", "*": "a long script", "zstd": "a long script",
	} {
		r, w := httptest.NewRequest("GET", "/assets/x.js", nil), httptest.NewRecorder()
		r.Header.Set("Accept-Encoding", accept)
		a.ServeHTTP(w, r)
		if w.Body.String() != want || (w.Header().Get("Content-Encoding") == "") != (want == "a long script") || w.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q gets %q as %q", accept, w.Body.String(), w.Header().Get("Content-Encoding"))
		}
		again := httptest.NewRequest("GET", "/assets/x.js", nil)
		again.Header.Set("Accept-Encoding", accept)
		again.Header.Set("If-None-Match", w.Header().Get("ETag"))
		w = httptest.NewRecorder()
		if a.ServeHTTP(w, again); w.Code != 304 {
			t.Errorf("%q, known already: %d", accept, w.Code)
		}
	}
}

func TestBrowser(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15":         "Safari on macOS",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0": "Edge on Windows",
		"Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36":                  "Chrome on Android",
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                        "Firefox on Linux", "curl/8.5.0": "curl", "": "unknown browser", "robot": "robot",
	} {
		if got := browser(agent); got != want {
			t.Errorf("%q is %q, want %q", agent, got, want)
		}
	}
}
