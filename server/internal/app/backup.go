package app

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/backup"
)

// backup serves POST /backup of the data folder's socket.
func (a *App) backup(w http.ResponseWriter, r *http.Request) {
	var in backup.Request
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&in); err != nil || !filepath.IsAbs(in.Folder) {
		api.WriteError(w, event.Invalid("the backup's folder is not an absolute path", "use hedgerow backup"))
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 1<<16)) // to the end, so that a disconnect is noticed
	out, err := backup.Write(r.Context(), backup.Source{Store: a.Store, Journal: a.journal, Prices: a.cfg.Path("prices.json"), Version: a.cfg.Version, Schema: in.Schema}, in.Folder)
	if err != nil {
		api.WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}
