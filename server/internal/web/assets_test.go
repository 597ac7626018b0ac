package web

import (
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

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

// TestIconsAndFont are of the build; without it pages have neither.
func TestIconsAndFont(t *testing.T) {
	a := loadAssets(fstest.MapFS{"dist/icons.json": {Data: []byte(`{"sun":"<path/>"}`)}, "dist/inter-1.woff2": {Data: []byte("font")}})
	without := loadAssets(fstest.MapFS{"dist/.gitkeep": {}})
	if a.Icons["sun"] != "<path/>" || a.Font != "/assets/inter-1.woff2" || !strings.Contains(string(a.files["/static/style.css"].body), "url(/assets/inter-1.woff2)") || a.files[a.Font].kind != "font/woff2" || a.Style == without.Style {
		t.Errorf("icons %v, font %q of kind %q, style %q", a.Icons, a.Font, a.files[a.Font].kind, a.Style)
	}
	if without.Icons["sun"] != "" || without.Font != "" || strings.Contains(string(without.files["/static/style.css"].body), "font-face") {
		t.Errorf("without a build: %v %q", without.Icons, without.Font)
	}
}
