// Package backup writes the store and the settings of a server to a folder
// ([Write]), and restores a data folder from it ([Restore]).
package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/dataset"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/reconcile"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// A backup is a folder with these files. It does not contain the secret key:
// encrypted values remain encrypted, and the two belong in different places.
const (
	StoreFile    = "hedgerow.duckdb"
	SettingsFile = "settings.json"
	backupPrices = "prices.json"
)

// savedSettings is the form of SettingsFile.
type savedSettings struct {
	Hedgerow string            `json:"hedgerow"` // version that wrote it
	Time     time.Time         `json:"time"`
	Bucket   map[string][]byte `json:"bucket"` // records as the settings bucket has them: sealed where they are secret
	// Others are the records of the other buckets, by bucket.
	Others map[string]map[string][]byte `json:"others,omitempty"`
}

// Request is the body of POST /backup on the socket of the data folder.
type Request struct {
	Folder string `json:"folder"`
	Schema int    `json:"schema,omitzero"` // of the store, for an older hedgerow; 0 is this one's own
}

// Result is the answer to it.
type Result struct {
	StoreBytes int64 `json:"store_bytes"`
	Records    int   `json:"records"`
}

// Source is the input of a backup.
type Source struct {
	Store   *store.DuckDB
	Journal *journal.Journal // has the settings
	Prices  string           // path of the synced prices, which need not be there
	Version string           // of hedgerow
	Schema  int              // of the store that is written; 0 is this hedgerow's own
}

// Write writes a backup to a new folder. It is written whole or not at all.
func Write(ctx context.Context, a Source, folder string) (out Result, err error) {
	if err := os.Mkdir(folder, 0o700); err != nil {
		hint := "its parent must be a folder that the server can write to"
		if errors.Is(err, fs.ErrExist) {
			hint = "a backup is written to a new folder: use one that does not exist"
		}
		return out, event.NewError(event.CodeInvalid, "the folder "+folder+" cannot be made", hint, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(folder)) // half a backup is none
		}
	}()
	if err := a.Store.Backup(ctx, filepath.Join(folder, StoreFile), a.Schema); err != nil {
		return out, err
	}
	if st, err := os.Stat(filepath.Join(folder, StoreFile)); err == nil {
		out.StoreBytes = st.Size()
	}
	saved := savedSettings{Hedgerow: a.Version, Time: time.Now().UTC(), Others: make(map[string]map[string][]byte)}
	if saved.Bucket, err = records(ctx, a.Journal, project.Bucket); err != nil {
		return out, err
	}
	if len(saved.Bucket) == 0 {
		return out, event.NewError(event.CodeNotFound, "there is nothing to back up: the data folder has no settings", "see hedgerow doctor whether they are damaged, and check that --data names the right folder", nil)
	}
	out.Records = len(saved.Bucket)
	for _, name := range otherBuckets {
		records, err := records(ctx, a.Journal, name)
		if err != nil {
			return out, err
		}
		saved.Others[name] = records
		out.Records += len(records)
	}
	b, err := json.Marshal(saved)
	if err != nil {
		return out, err
	}
	if err := os.WriteFile(filepath.Join(folder, SettingsFile), b, 0o600); err != nil {
		return out, fmt.Errorf("write settings: %w", err)
	}
	prices, err := os.ReadFile(a.Prices)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, backupPrices), prices, 0o600)
	}
	return out, err
}

// BatchesBucket keeps who submitted which batch to a provider.
const BatchesBucket = "batches"

// otherBuckets are the buckets besides project.Bucket with users' records: a
// backup has them too. Today's spending of judges is not among them.
var otherBuckets = []string{prompt.Bucket, eval.ChecksBucket, dataset.SetsBucket, dataset.RunsBucket, dataset.ItemsBucket, experiment.Bucket, ledger.Bucket, reconcile.ImportsBucket, reconcile.DaysBucket, BatchesBucket}

// records reads all of a bucket.
func records(ctx context.Context, j *journal.Journal, bucket string) (map[string][]byte, error) {
	kv, err := j.KeyValue(ctx, bucket, 1)
	if err != nil {
		return nil, err
	}
	keys, err := kv.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, fmt.Errorf("list settings: %w", err)
	}
	out := make(map[string][]byte, len(keys))
	for _, k := range keys {
		e, err := kv.Get(ctx, k)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue // just deleted
		}
		if err != nil {
			return nil, fmt.Errorf("read settings: %w", err)
		}
		out[k] = e.Value()
	}
	return out, nil
}

// Restore makes c.Data from a backup. The settings come last: a folder without
// them is one that hedgerow has never been started on.
func Restore(ctx context.Context, c *config.Config, folder string) (records int, err error) {
	b, err := os.ReadFile(filepath.Join(folder, SettingsFile))
	if err != nil {
		return 0, config.Invalid(folder+" is no backup", "name a folder that hedgerow backup has written", err)
	}
	var saved savedSettings
	if err := json.Unmarshal(b, &saved); err != nil || len(saved.Bucket) == 0 {
		return 0, config.DataError(event.NewError(event.CodeInvalid, "the settings of the backup cannot be read", "use another backup", err))
	}
	if err := c.RefuseForeign(folder); err != nil {
		return 0, err
	}
	if _, err := os.Stat(c.Path("journal")); err == nil {
		return 0, config.DataError(event.NewError(event.CodeConflict, "there is a hedgerow in "+c.Data+" already", "restore to a folder that does not exist yet: --data ./restored", nil))
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return 0, config.DataError(event.NewError(event.CodeUnavailable, "the data folder "+c.Data+" cannot be made", "name another with --data", err))
	}
	if err := store.Restore(ctx, filepath.Join(folder, StoreFile), c.Path(StoreFile)); err != nil {
		return 0, config.DataError(err)
	}
	if prices, err := os.ReadFile(filepath.Join(folder, backupPrices)); err == nil {
		if err := os.WriteFile(c.Path("prices.json"), prices, 0o600); err != nil {
			return 0, config.DataError(event.NewError(event.CodeUnavailable, "the prices cannot be written", "check the disk", err))
		}
	}
	j, err := journal.Open(ctx, journal.Config{Dir: c.Path("journal"), MaxBytes: config.MustSize(c.JournalMaxBytes), Erasing: []string{project.Bucket}})
	if err != nil {
		return 0, config.DataError(err)
	}
	defer func() { err = errors.Join(err, j.Close(context.WithoutCancel(ctx))) }()
	all := map[string]map[string][]byte{project.Bucket: saved.Bucket}
	for name, bucket := range saved.Others {
		if slices.Contains(otherBuckets, name) {
			all[name] = bucket
		}
	}
	for name, bucket := range all {
		kv, err := j.KeyValue(ctx, name, 1)
		if err != nil {
			return 0, config.DataError(err)
		}
		for k, v := range bucket {
			if _, err := kv.Put(ctx, k, v); err != nil {
				return 0, fmt.Errorf("restore settings: %w", err)
			}
		}
		records += len(bucket)
	}
	return records, nil
}
