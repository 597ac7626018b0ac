package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"strings"
)

//go:embed static
var static embed.FS

// dist is what esbuild makes of ui/. It is empty in a build without "make
// assets": then the pages have no scripts, and work all the same.
//
//go:embed all:dist
var dist embed.FS

// assets serves the bundled scripts. Their URLs bear a hash, so that browsers
// may keep them for ever.
type assets struct {
	files fs.FS
	App   string // URL of the script of every page, "" without one
}

func loadAssets(all fs.FS) assets {
	files, err := fs.Sub(all, "dist")
	if err != nil {
		return assets{}
	}
	a := assets{files: files}
	if b, err := fs.ReadFile(files, "app.js"); err == nil {
		sum := sha256.Sum256(b)
		a.App = "/assets/app.js?v=" + hex.EncodeToString(sum[:6])
	}
	return a
}

func (a assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/assets/")
	if info, err := fs.Stat(a.files, name); err != nil || info.IsDir() || strings.HasPrefix(name, ".") {
		http.NotFound(w, r)
		return
	}
	if name != "app.js" || r.URL.RawQuery != "" {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeFileFS(w, r, a.files, name)
}
