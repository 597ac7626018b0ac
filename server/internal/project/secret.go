package project

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
)

const redacted = "[secret]"

// Secret is a value that is never revealed by fmt with any verb, encoding/json
// or log/slog. Only [Secret.Reveal] returns it, so that its uses can be found.
// The zero Secret is empty.
type Secret struct {
	// A pointer, because fmt reaches unexported fields of the structs around
	// this one without requesting their String method; it prints an address.
	v *string

	// host is the host that the value was saved for; "" if it has not been saved
	// yet, or is never sent on its own.
	host string
}

// NewSecret hides s.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{v: &s}
}

// Reveal returns the value itself.
func (s Secret) Reveal() string {
	if s.v == nil {
		return ""
	}
	return *s.v
}

// isFor reports whether the value may be sent to a host: it was saved for that
// one, or has not been saved yet.
func (s Secret) isFor(host string) bool { return s.host == "" || s.host == host }

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.v == nil }

// Equal compares the values in constant time.
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(o.Reveal())) == 1
}

// LastFour returns the last four characters of a value of at least twelve, and
// "" of a shorter one: four of those would be too much of it.
func (s Secret) LastFour() string {
	v := s.Reveal()
	if len(v) < 12 {
		return ""
	}
	return v[len(v)-4:]
}

// String shows that there is a value, never which; so do the methods after it.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// GoString is what %#v prints.
func (s Secret) GoString() string { return "project.Secret(" + s.String() + ")" }

// Format is what every verb of fmt prints.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText is what encoders of text print, encoding/json among them.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is what log/slog prints.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
