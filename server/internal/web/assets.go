package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
	"github.com/klauspost/compress/gzhttp"
	"github.com/klauspost/compress/gzip"
)

//go:embed static
var static embed.FS

// dist is what esbuild makes of ui/. It is empty in a build without "make
// assets": then the pages have no scripts, and still work.
//
//go:embed all:dist
var dist embed.FS

// assets serves the style sheet, the bundled scripts and the font. Their URLs contain a
// hash, so that browsers may cache them forever. Each is compressed once: the
// scripts when they are bundled, the rest when the server starts.
type assets struct {
	page.Assets
	files map[string]asset // by the path of the URL
}

// asset is a file with its compressed forms, by content coding.
type asset struct {
	body    []byte
	as      map[string][]byte
	kind    string
	forever bool // its name contains a hash
}

// codings are those that assets have, the shortest first.
var codings = []string{"br", "gzip"}

// loadAssets reads what is embedded; built has the folder dist.
func loadAssets(built fs.FS) assets {
	a := assets{files: make(map[string]asset)}
	a.load(static, "static", "/static/")
	a.load(built, "dist", "/assets/")
	if f, ok := a.files["/assets/app.js"]; ok {
		a.App = "/assets/app.js?v=" + f.hash()
	}
	icons, _ := fs.ReadFile(built, "dist/icons.json")
	_ = json.Unmarshal(icons, &a.Icons) // ours; without the file there are none
	const style = "/static/style.css"
	for name := range a.files {
		if path.Ext(name) == ".woff2" {
			a.Font = name
			f := a.files[style]
			f.body = append(fmt.Appendf(nil, "@font-face{font-family:Inter;font-weight:100 900;font-display:optional;src:url(%s) format(\"woff2\")}\n", name), f.body...)
			f.as["br"], f.as["gzip"] = compressed(f.body)
			a.files[style] = f
		}
	}
	a.Style = style + "?v=" + a.files[style].hash()
	return a
}

// load reads a folder. NAME.br and NAME.gz are forms of NAME.
func (a assets) load(files fs.FS, dir, url string) {
	// Embedded files are read from memory: what fails is not there.
	entries, _ := fs.ReadDir(files, dir)
	for _, e := range entries {
		name := e.Name()
		ext := path.Ext(name)
		if e.IsDir() || strings.HasPrefix(name, ".") || ext == ".br" || ext == ".gz" || ext == ".json" {
			continue
		}
		f := asset{kind: mime.TypeByExtension(ext), as: make(map[string][]byte), forever: dir == "dist" && name != "app.js"}
		if ext == ".woff2" {
			f.kind = "font/woff2" // which not each system's table has
		}
		f.body, _ = fs.ReadFile(files, path.Join(dir, name))
		br, _ := fs.ReadFile(files, path.Join(dir, name+".br"))
		gz, _ := fs.ReadFile(files, path.Join(dir, name+".gz"))
		if len(br) == 0 && dir == "static" {
			br, gz = compressed(f.body)
		}
		for coding, b := range map[string][]byte{"br": br, "gzip": gz} {
			if len(b) > 0 && len(b) < len(f.body) {
				f.as[coding] = b
			}
		}
		a.files[url+name] = f
	}
}

func compressed(b []byte) (br, gz []byte) {
	var outs [2]bytes.Buffer
	w := brotli.NewWriterLevel(&outs[0], 5) // from 6 on a writer takes tens of MB, which would stay as the process's peak
	_, _ = w.Write(b)                       // into memory
	_ = w.Close()
	z, _ := gzip.NewWriterLevel(&outs[1], gzip.BestCompression)
	_, _ = z.Write(b)
	_ = z.Close()
	return outs[0].Bytes(), outs[1].Bytes()
}

func (f asset) hash() string {
	sum := sha256.Sum256(f.body)
	return hex.EncodeToString(sum[:6])
}

func (a assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Add("Vary", "Accept-Encoding")
	if f.forever || r.URL.RawQuery != "" {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	body, tag := f.body, f.hash()
	for _, c := range codings {
		if b, ok := f.as[c]; ok && accepts(r, c) {
			h.Set("Content-Encoding", c)
			body, tag = b, tag+"-"+c
			break
		}
	}
	h.Set("ETag", strconv.Quote(tag))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// accepts reports whether a browser takes a content coding (RFC 9110, section
// 12.5.3). A wildcard is not counted: who sends one gets the file as it is.
func accepts(r *http.Request, coding string) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), coding) {
			continue
		}
		q, ok := strings.CutPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
		if !ok {
			return true
		}
		v, err := strconv.ParseFloat(q, 64)
		return err == nil && v > 0
	}
	return false
}

// squeeze compresses a handler's response, with gzip or zstd. Pages contain
// form tokens and also parameters of their address: random padding prevents the
// length from revealing how much the two have in common (BREACH,
// breachattack.com). It must not wrap streams, which it would
// delay.
func squeeze() func(http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.RandomJitter(32, 0, false), gzhttp.MinSize(1024))
	if err != nil {
		panic(err) // these options are valid
	}
	return func(h http.Handler) http.Handler { return wrap(h) }
}
