package price

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Overlay is a file of prices: what "hedgerow prices sync" saves and
// [Table.WithSynced] lays over the built-in table.
type Overlay struct {
	Source string    // address or path that the prices were read from
	Notice string    // whose data it is, and under which license
	Date   time.Time // day on which they were read, or asked for and found unchanged, UTC
	ETag   string    // of the answer that they came with
	Rows   []Row
}

// overlayVersion is the version of the file form. A file of a later version is
// rejected rather than misread.
const overlayVersion = 1

// maxOverlay bounds the size of a file of prices.
const maxOverlay = 32 << 20

// overlayFile is the file form: the built-in files have it too.
type overlayFile struct {
	Version int    `json:"version"`
	Unit    string `json:"unit"` // for people: the rows' own unit decides
	Source  string `json:"source,omitzero"`
	Notice  string `json:"notice,omitzero"`
	Date    string `json:"date,omitzero"`
	ETag    string `json:"etag,omitzero"`
	Rows    []Row  `json:"rows"`
}

const overlayUnit = "USD per million tokens or characters; request, web_search, file_search, code_session, search_unit, hour, page and image are USD each"

// Load reads an overlay that [Save] wrote. A file that is not there is an
// [fs.ErrNotExist]; one that cannot be read is an [*event.Error] that says what
// to do.
func Load(path string) (Overlay, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Overlay{}, fmt.Errorf("open prices: %w", err)
	}
	if err != nil {
		return Overlay{}, event.NewError(event.CodeInvalid, "the synced prices "+path+" cannot be read", "check the file's permissions", err)
	}
	defer f.Close()
	o, err := decodeOverlay(io.LimitReader(f, maxOverlay))
	if err != nil {
		return Overlay{}, event.NewError(event.CodeInvalid, "the synced prices "+path+" are damaged, or of a newer hedgerow", `run "hedgerow prices sync", which rewrites the file`, err)
	}
	for i := range o.Rows {
		o.Rows[i].Origin = event.CostSynced
	}
	return o, nil
}

func decodeOverlay(r io.Reader) (Overlay, error) {
	var f overlayFile
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return Overlay{}, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return Overlay{}, errors.New("there is something behind the end of the list")
	}
	if f.Version != overlayVersion {
		return Overlay{}, fmt.Errorf("version is %d, not %d", f.Version, overlayVersion)
	}
	o := Overlay{Source: f.Source, Notice: f.Notice, ETag: f.ETag, Rows: f.Rows}
	if f.Date != "" {
		var err error
		if o.Date, err = time.Parse(time.DateOnly, f.Date); err != nil {
			return Overlay{}, fmt.Errorf("read date: %w", err)
		}
	}
	for i := range o.Rows {
		if o.Rows[i].Provider == "" {
			return Overlay{}, fmt.Errorf("the price of %.80q has no provider", o.Rows[i].Model)
		}
	}
	return o, nil
}

// Save writes the overlay to path: one row a line, mode 0644. The file is
// replaced in one step, so that a reader sees the old prices or the new ones.
// Errors are [*event.Error].
func Save(path string, o Overlay) error {
	failed := func(err error) error {
		return event.NewError(event.CodeInvalid, "the prices cannot be written to "+path, "check that the folder is there, is writable and has space", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return failed(err)
	}
	defer os.Remove(tmp.Name()) // no longer there once renamed
	err = writeOverlay(tmp, o)
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return failed(err)
	}
	return nil
}

func writeOverlay(w io.Writer, o Overlay) error {
	head := overlayFile{Version: overlayVersion, Unit: overlayUnit, Source: o.Source, Notice: o.Notice, ETag: o.ETag}
	if !o.Date.IsZero() {
		head.Date = o.Date.UTC().Format(time.DateOnly)
	}
	b, err := json.Marshal(head)
	if err != nil {
		return err
	}
	b = append(b[:len(b)-len("null}")], "[\n"...)
	for i, r := range o.Rows {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		b = append(b, line...)
		if i < len(o.Rows)-1 {
			b = append(b, ',')
		}
		b = append(b, '\n')
	}
	b = append(b, "]}\n"...)
	_, err = w.Write(b)
	return err
}
