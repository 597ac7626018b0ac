package project

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// ofProjects are the prefixes of the records that go with their project.
var ofProjects = []string{prefixAPIKey, prefixConnection, prefixProvider, prefixAdminKey, prefixDashboard, prefixSavedView}

// sweepOrphans deletes records whose project is deleted or being deleted, for
// example after an interrupted deletion.
func (r *Registry) sweepOrphans(ctx context.Context) error {
	filters := make([]string, len(ofProjects))
	for i, prefix := range ofProjects {
		filters[i] = prefix + ">"
	}
	// The listing is read completely first: changes during a listing appear again.
	lister, err := r.bucket.ListKeysFiltered(ctx, filters...)
	if err != nil {
		return err
	}
	var keys []string
	for key := range lister.Keys() {
		keys = append(keys, key)
	}
	gone := make(map[string]bool) // projects, by whether they are
	for _, key := range keys {
		e, err := r.bucket.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue
		} else if err != nil {
			return err
		}
		var env struct {
			Record struct{ Project, Name string }
		}
		if json.Unmarshal(e.Value(), &env) != nil || env.Record.Project == "" {
			continue // unreadable: its owner is unknown
		}
		id := env.Record.Project
		is, known := gone[id]
		if !known {
			if is, err = r.projectGone(ctx, id); err != nil {
				return err
			}
			gone[id] = is
		}
		if !is {
			continue
		}
		r.release(ctx, connectionNames(id), env.Record.Name, key) // only connections have one
		if err := r.purge(ctx, key, 0); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) projectGone(ctx context.Context, id string) (bool, error) {
	_, err := r.bucket.Get(ctx, prefixProject+id)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return true, nil
	}
	return false, err
}

// stillWanted removes a record that was just written again where its project
// was deleted meanwhile, by someone who may not have seen the record.
func (r *Registry) stillWanted(ctx context.Context, projectID, key string) error {
	switch gone, err := r.projectGone(ctx, projectID); {
	case err != nil:
		return unavailable("the project could not be read", err)
	case !gone:
		return nil
	}
	if err := r.purge(ctx, key, 0); err != nil {
		return unavailable("the project is deleted, but the record just created for it could not be removed", err)
	}
	return missing("project")
}
