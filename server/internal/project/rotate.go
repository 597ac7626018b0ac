package project

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/kv"
)

// sealCheck is the record that verifies the secret key. During a rotation it
// also has the new key encrypted with the old one and the reverse, so that a
// holder of either can decrypt everything: an interrupted rotation does no
// harm, and running replicas follow it.
type sealCheck struct {
	KeyID string `json:"key_id"`
	Check string `json:"check"` // a constant, sealed
	Next  *next  `json:"next,omitempty"`
}

type next struct {
	KeyID   string `json:"key_id"`
	Forward string `json:"forward"` // the new key, sealed with the old
	Back    string `json:"back"`    // the old key, sealed with the new
}

const (
	checkText   = "hedgerow"
	pathCheck   = keySealCheck + "/check"
	pathForward = keySealCheck + "/forward"
	pathBack    = keySealCheck + "/back"
)

func newSealCheck(s *sealer) sealCheck {
	return sealCheck{KeyID: s.id, Check: s.seal(pathCheck, []byte(checkText))}
}

func errWrongKey() error {
	return event.NewError(event.CodeInvalid, "the settings are sealed with another secret key",
		"start with the key used before: the earlier HEDGEROW_SECRET_KEY, or the key file restored from a backup. Nothing was changed. "+
			"If that key is lost, the sealed keys are, too: start with another data folder, and keep this one for its events", nil)
}

// openRing finds out whether key is the bucket's, and makes it so in a new one.
func (r *Registry) openRing(ctx context.Context, key *sealer) error {
	value, err := r.sealRecord(ctx, key)
	if err != nil {
		return err
	}
	if value == nil { // not available, or just made
		r.ring.Store(&keyring{key})
		return nil
	}
	var check sealCheck
	if err := json.Unmarshal(value, &check); err != nil {
		return event.NewError(event.CodeInternal, "the record of the secret key is damaged", "restore a backup of the data folder", err)
	}
	ring := keyring{key}
	if check.Next != nil {
		switch key.id {
		case check.KeyID:
			newer, err := openKey(ring, pathForward, check.Next.Forward)
			if err != nil {
				return errWrongKey()
			}
			ring = keyring{newer, key}
		case check.Next.KeyID:
			older, err := openKey(ring, pathBack, check.Next.Back)
			if err != nil {
				return errWrongKey()
			}
			ring = keyring{key, older}
		}
	}
	if _, err := ring.open(pathCheck, check.Check); err != nil {
		return errWrongKey()
	}
	r.ring.Store(&ring)
	return nil
}

// sealRecord returns the record of the secret key, from the bucket or, if it is
// missing or unreadable there, from the last-good copy: a bucket that was lost
// must not accept another key. Nil means that there is none; it is then created
// with key if the bucket can be written, else by Bootstrap.
func (r *Registry) sealRecord(ctx context.Context, key *sealer) ([]byte, error) {
	readCtx, cancel := context.WithTimeout(ctx, sealWait)
	defer cancel()
	e, err := r.bucket.Get(readCtx, keySealCheck)
	if err == nil && json.Valid(e.Value()) {
		return e.Value(), nil
	}
	if ctx.Err() != nil {
		return nil, unavailable("the settings could not be opened", ctx.Err())
	}
	if r.o.LastGood != "" {
		copied, cerr := kv.ReadLastGood(r.o.LastGood)
		if value := copied[keySealCheck]; value != nil {
			return value, nil
		}
		if cerr != nil && !errors.Is(cerr, fs.ErrNotExist) {
			r.log.Warn("the last-good copy of the settings cannot be read", "path", r.o.LastGood, "err", cerr)
		}
	}
	switch {
	case err == nil: // damaged, and no copy
		return e.Value(), nil
	case errors.Is(err, jetstream.ErrKeyNotFound):
		made, err := r.makeSeal(ctx, r.bucket, key)
		if err != nil && r.o.LastGood == "" {
			return nil, err
		}
		return made, nil
	case r.o.LastGood == "":
		return nil, unavailable("the settings could not be opened", err)
	}
	return nil, nil
}

// sealWait bounds the wait for the record of the secret key.
const sealWait = 5 * time.Second

// makeSeal writes the record of the secret key, or returns the existing one if
// another process was first.
func (r *Registry) makeSeal(ctx context.Context, bucket jetstream.KeyValue, key *sealer) ([]byte, error) {
	b, err := json.Marshal(newSealCheck(key))
	if err != nil {
		return nil, err
	}
	if _, err := bucket.Create(ctx, keySealCheck, b); err == nil {
		return nil, nil
	} else if !errors.Is(err, jetstream.ErrKeyExists) {
		return nil, unavailable("the settings could not be opened", err)
	}
	e, err := bucket.Get(ctx, keySealCheck)
	if err != nil {
		return nil, unavailable("the settings could not be opened", err)
	}
	return e.Value(), nil
}

func openKey(ring keyring, path, sealed string) (*sealer, error) {
	s, err := ring.open(path, sealed)
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(s.Reveal())
	if err != nil {
		return nil, err
	}
	return newSealer(raw)
}

// applySeal follows a rotation that any replica does.
func (r *Registry) applySeal(value []byte) error {
	if value == nil {
		return nil
	}
	var check sealCheck
	if err := json.Unmarshal(value, &check); err != nil {
		return err
	}
	for {
		old := r.ring.Load()
		ring := *old
		switch {
		case check.Next == nil && !ring.has(check.KeyID):
			return errRotated() // and the new key cannot be learned any more
		case check.Next == nil, ring[0].id == check.Next.KeyID:
			return nil // keys once known stay: a straggler's record may still need them
		}
		newer, err := openKey(ring, pathForward, check.Next.Forward)
		if err != nil {
			return fmt.Errorf("follow the rotation of the secret key: %w", err)
		}
		grown := append(keyring{newer}, ring...)
		if r.ring.CompareAndSwap(old, &grown) { // the watch and writers follow at the same time
			return nil
		}
	}
}

func errRotated() error {
	return event.NewError(event.CodeConflict, "the secret key was rotated, and this process still has the old one: it cannot save encrypted settings",
		"restart it with the new key", nil)
}

// followSeal reads the record of the secret key from the bucket, since the watch can
// lag, and follows a rotation. It returns the key to seal with.
func (r *Registry) followSeal(ctx context.Context) (*sealer, error) {
	e, err := r.bucket.Get(ctx, keySealCheck)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound): // before the first start
	case err != nil:
		return nil, unavailable("the record of the secret key could not be read", err)
	default:
		if err := r.applySeal(e.Value()); err != nil {
			return nil, err
		}
	}
	return (*r.ring.Load())[0], nil
}

// sealed writes a record, and returns its revision. A rotation may begin while
// a record with secrets is written, and miss it: then it is sealed again with
// the new key. A process that has only the former key writes no secrets.
func sealed[T any, P record[T]](ctx context.Context, r *Registry, p P, key string, write func() (uint64, error)) (uint64, error) {
	if p.secrets() == nil {
		return write()
	}
	before, err := r.followSeal(ctx)
	if err != nil {
		return 0, err
	}
	revision, err := write()
	if err != nil {
		return 0, err
	}
	after, err := r.followSeal(ctx)
	if err != nil || after.id == before.id {
		return revision, err
	}
	again, err := r.resealRecord(ctx, key, after)
	return max(revision, again), err
}

// Rotate encrypts everything with another 32-byte key. When it returns, the old
// key is useless, and the caller stores the new one for [LoadSecretKey];
// running replicas continue and need the new key at their next start. If it is
// interrupted, both keys work until it is called again.
func (r *Registry) Rotate(ctx context.Context, newKey []byte) error {
	fresh, err := newSealer(newKey)
	if err != nil {
		return err
	}
	e, err := r.bucket.Get(ctx, keySealCheck)
	if err != nil {
		return unavailable("the secret key could not be rotated", err)
	}
	var check sealCheck
	if err := json.Unmarshal(e.Value(), &check); err != nil {
		return event.NewError(event.CodeInternal, "the record of the secret key is damaged", "restore a backup of the data folder", err)
	}
	rev := e.Revision()
	if check.Next != nil && check.Next.KeyID != fresh.id {
		return event.NewError(event.CodeConflict, "a rotation to another key is in progress", "finish that one first, with the key it was started with", nil)
	}
	if check.KeyID == fresh.id {
		return event.Invalid("this secret key is already in use", "create another one with: openssl rand -base64 32")
	}
	if check.Next == nil {
		ring := *r.ring.Load()
		check.Next = &next{KeyID: fresh.id, Forward: ring[0].seal(pathForward, []byte(base64.StdEncoding.EncodeToString(newKey)))}
		check.Next.Back = fresh.seal(pathBack, []byte(base64.StdEncoding.EncodeToString(ring[0].raw)))
		b, err := json.Marshal(check)
		if err != nil {
			return err
		}
		if rev, err = r.bucket.Update(ctx, keySealCheck, b, rev); err != nil {
			return unavailable("the secret key could not be rotated", err)
		}
	}
	// From here on this registry, and soon every other, seals with the new key.
	if err := r.b.Await(ctx, rev); err != nil {
		return err
	}
	// A replica that has not seen the rotation yet may add a record sealed with
	// the old key: passes are made until one finds nothing to do.
	for {
		n, err := r.reseal(ctx, fresh)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	b, err := json.Marshal(newSealCheck(fresh))
	if err != nil {
		return err
	}
	if rev, err = r.bucket.Update(ctx, keySealCheck, b, rev); err != nil {
		return unavailable("the secret key could not be rotated", err)
	}
	return r.done(ctx, rev, AuditEntry{Action: "secret_key.rotate"})
}

// reseal seals every value that another key has sealed, and returns how many
// records it changed.
func (r *Registry) reseal(ctx context.Context, with *sealer) (int, error) {
	// The listing is read completely first: changes during a listing appear again.
	lister, err := r.bucket.ListKeys(ctx)
	if err != nil {
		return 0, unavailable("the secret key could not be rotated", err)
	}
	var keys []string
	for key := range lister.Keys() {
		keys = append(keys, key)
	}
	n := 0
	for _, key := range keys {
		revision, err := r.resealRecord(ctx, key, with)
		if err != nil {
			return n, err
		}
		if revision != 0 {
			n++
		}
	}
	return n, nil
}

// resealRecord returns the new revision, or 0 if the record needs no change.
func (r *Registry) resealRecord(ctx context.Context, key string, with *sealer) (uint64, error) {
	revision, err := kv.Swap(ctx, r.bucket, key, func(old jetstream.KeyValueEntry) ([]byte, error) {
		var env envelope
		if old == nil || json.Unmarshal(old.Value(), &env) != nil || len(env.Sealed) == 0 {
			return nil, errAsItIs // not a record with secrets
		}
		stale := false
		for name, sealed := range env.Sealed {
			if sealedBy(sealed) == with.id {
				continue
			}
			s, err := (*r.ring.Load()).open(key+"/"+name, sealed)
			if err != nil {
				return nil, event.NewError(event.CodeConflict, "a sealed value cannot be decrypted, so the rotation is not finished",
					"delete the "+key+" record's owner (connection, provider key or project) and rotate again; both keys work until then", err)
			}
			env.Sealed[name], stale = with.seal(key+"/"+name, []byte(s.Reveal())), true
		}
		if !stale {
			return nil, errAsItIs
		}
		return json.Marshal(env)
	})
	switch {
	case errors.Is(err, errAsItIs):
		return 0, nil
	case errors.Is(err, kv.ErrRead), errors.Is(err, kv.ErrWrite):
		return 0, unavailable("the secret key could not be rotated", err)
	}
	return revision, failed("record "+key, "", err)
}
