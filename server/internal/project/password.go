package project

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/hedgerow/hedgerow/event"
)

// argonParams are OWASP's recommendation for argon2id: 19 MiB, two passes, one
// lane. Four at a time take 76 MiB.
type argonParams struct {
	memory  uint32 // KiB
	passes  uint32
	lanes   uint8
	saltLen int
	keyLen  uint32
}

var argonNow = argonParams{memory: 19 * 1024, passes: 2, lanes: 1, saltLen: 16, keyLen: 32}

// nobodysPassword is compared in a sign-in with an unknown address: it costs
// the same and never matches, because its key is not a hash.
var nobodysPassword = argonNow.encode(make([]byte, argonNow.saltLen), make([]byte, argonNow.keyLen))

// encode writes the PHC form: $argon2id$v=19$m=…,t=…,p=…$salt$key.
func (p argonParams) encode(salt, key []byte) string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.passes, p.lanes, b64(salt), b64(key))
}

func (r *Registry) hashPassword(ctx context.Context, password string) (string, error) {
	release, err := r.acquirePassword(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	p, salt := argonNow, make([]byte, argonNow.saltLen)
	_, _ = rand.Read(salt)
	return p.encode(salt, argon2.IDKey([]byte(password), salt, p.passes, p.memory, p.lanes, p.keyLen)), nil
}

// verifyPassword reports whether a password matches, and whether its hash was
// made with other parameters than today's.
func (r *Registry) verifyPassword(ctx context.Context, hash, password string) (match, stale bool, err error) {
	p, salt, key, err := parseHash(hash)
	if err != nil {
		return false, false, event.NewError(event.CodeInternal, "the user's password is damaged", "set a new one with a sign-in link", err)
	}
	release, err := r.acquirePassword(ctx)
	if err != nil {
		return false, false, err
	}
	defer release()
	got := argon2.IDKey([]byte(password), salt, p.passes, p.memory, p.lanes, p.keyLen)
	return subtle.ConstantTimeCompare(got, key) == 1, p != argonNow, nil
}

func (r *Registry) acquirePassword(ctx context.Context) (func(), error) {
	select {
	case r.passwords <- struct{}{}:
		return func() { <-r.passwords }, nil
	case <-ctx.Done():
		return nil, event.NewError(event.CodeUnavailable, "too many sign-ins right now", "try again", ctx.Err())
	}
}

func parseHash(s string) (p argonParams, salt, key []byte, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, nil, nil, errors.New("not an argon2id hash")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.passes, &p.lanes); err != nil {
		return p, nil, nil, errors.New("argon2id parameters are unreadable")
	}
	// Bounds, so that a damaged record cannot take the machine's memory.
	if p.passes < 1 || p.passes > 16 || p.lanes < 1 || p.memory < 8 || p.memory > 1<<20 {
		return p, nil, nil, errors.New("argon2id parameters are out of range")
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	key, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err := errors.Join(err1, err2); err != nil || len(key) < 16 || len(key) > 64 {
		return p, nil, nil, errors.New("argon2id hash is unreadable")
	}
	p.saltLen, p.keyLen = len(salt), uint32(len(key))
	return p, salt, key, nil
}
