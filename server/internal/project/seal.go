package project

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/atomicfile"
)

// KeySize is the length of a secret key in bytes: AES-256.
const KeySize = 32

// sealVersion starts every sealed value: version, key id and the base64 of
// nonce and ciphertext, joined by dots.
const sealVersion = "s1"

// sealer seals with one key.
type sealer struct {
	id   string // first 8 bytes of the SHA-256 of a label and the key, in hex
	aead cipher.AEAD
	raw  []byte
}

func newSealer(key []byte) (*sealer, error) {
	if len(key) != KeySize {
		return nil, event.Invalid(fmt.Sprintf("the secret key has %d bytes, not 32", len(key)), "create one with: openssl rand -base64 32")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte("hedgerow secret key id\x00"), key...))
	return &sealer{id: hex.EncodeToString(sum[:8]), aead: aead, raw: bytes.Clone(key)}, nil
}

// seal encrypts plain under a random nonce. The path names the record and the
// field: a sealed value that is moved to another place does not open there.
func (s *sealer) seal(path string, plain []byte) string {
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(plain)+s.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the process instead
	return sealVersion + "." + s.id + "." + base64.RawURLEncoding.EncodeToString(s.aead.Seal(nonce, nonce, plain, []byte(path)))
}

// keyring opens values sealed with any of its keys and seals with the first. It
// has two only while the secret key is being rotated.
type keyring []*sealer

func (k keyring) seal(path string, s Secret) string {
	if s.IsZero() {
		return ""
	}
	return k[0].seal(path, []byte(s.Reveal()))
}

func (k keyring) has(id string) bool {
	return slices.ContainsFunc(k, func(s *sealer) bool { return s.id == id })
}

var (
	errOtherKey = errors.New("sealed with another secret key")
	errDamaged  = errors.New("sealed value is damaged")
)

func (k keyring) open(path, sealed string) (Secret, error) {
	if sealed == "" {
		return Secret{}, nil
	}
	parts := strings.Split(sealed, ".")
	if len(parts) != 3 || parts[0] != sealVersion {
		return Secret{}, errDamaged
	}
	for _, s := range k {
		if s.id != parts[1] {
			continue
		}
		b, err := base64.RawURLEncoding.DecodeString(parts[2])
		if err != nil || len(b) < s.aead.NonceSize() {
			return Secret{}, errDamaged
		}
		plain, err := s.aead.Open(nil, b[:s.aead.NonceSize()], b[s.aead.NonceSize():], []byte(path))
		if err != nil {
			return Secret{}, errDamaged
		}
		return NewSecret(string(plain)), nil
	}
	return Secret{}, errOtherKey
}

// sealedBy returns the id of the key that sealed a value.
func sealedBy(sealed string) string {
	_, rest, _ := strings.Cut(sealed, ".")
	id, _, _ := strings.Cut(rest, ".")
	return id
}

// LoadSecretKey returns the 32-byte key that encrypts provider and PostHog keys.
// env, the value of HEDGEROW_SECRET_KEY, takes precedence: 32 bytes in hex or
// base64. Without it the key is read from the file at path, which is made, with
// mode 0600 and a random key, if there is none. A file that others may read is
// rejected.
func LoadSecretKey(env, path string) ([]byte, error) {
	if env = strings.TrimSpace(env); env != "" {
		key, err := parseSecretKey(env)
		if err != nil {
			return nil, event.Invalid("HEDGEROW_SECRET_KEY is not a key of 32 bytes in base64 or hex", "create one with: openssl rand -base64 32")
		}
		return key, nil
	}
	key, err := readSecretKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key = make([]byte, KeySize)
	_, _ = rand.Read(key)
	switch err := createSecretKey(path, key); {
	case errors.Is(err, fs.ErrExist): // another process was first
		return readSecretKey(path)
	case err != nil:
		return nil, event.NewError(event.CodeUnavailable, "the secret key could not be written", "make the folder of "+path+" writable, or set HEDGEROW_SECRET_KEY", err)
	}
	return key, nil
}

// CleanSecretKey removes what processes that were killed have left of writing the
// key's file.
func CleanSecretKey(path string) error {
	return atomicfile.Remove(filepath.Dir(path), func(name string) bool {
		return strings.HasPrefix(name, filepath.Base(path)+".") && strings.HasSuffix(name, ".tmp")
	})
}

func parseSecretKey(s string) ([]byte, error) {
	if len(s) == hex.EncodedLen(KeySize) {
		if b, err := hex.DecodeString(s); err == nil {
			return b, nil
		}
	}
	// One decoder for the four dialects of base64.
	std := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	b, err := base64.RawStdEncoding.DecodeString(std)
	if err != nil {
		return nil, err
	}
	if len(b) != KeySize {
		return nil, fmt.Errorf("%d bytes", len(b))
	}
	return b, nil
}

func readSecretKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, event.NewError(event.CodeUnavailable, "the secret key cannot be read", "check the permissions of "+path, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, event.Invalid(fmt.Sprintf("the secret key file %s has mode %04o: others can read it", path, mode), "run: chmod 600 "+path+" (and rotate the key if others could have read it)")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, event.NewError(event.CodeUnavailable, "the secret key cannot be read", "check the permissions of "+path, err)
	}
	key, err := parseSecretKey(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, event.Invalid("the secret key file "+path+" does not contain a base64 key of 32 bytes", "restore it from a backup; without it, the keys stored in hedgerow cannot be decrypted")
	}
	return key, nil
}

// createSecretKey makes the file, all of it or nothing, and fails with
// fs.ErrExist where there is one.
func createSecretKey(path string, key []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := writeKeyFile(path, key)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	// A link, unlike a rename, does not replace an existing file.
	if err := os.Link(tmp, path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return err
		}
		// Some file systems have no links. Then the lock on the data folder is
		// what prevents two concurrent first starts.
		if _, serr := os.Stat(path); serr == nil {
			return fs.ErrExist
		}
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

func writeKeyFile(path string, key []byte) (tmp string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}
