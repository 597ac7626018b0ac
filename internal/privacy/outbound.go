package privacy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"

	"github.com/hedgerow/hedgerow/event"
)

// OutPolicy says what may leave for one PostHog connection.
type OutPolicy struct {
	// PrivacyMode keeps prompts, answers and everything that may echo them at
	// home. It is the default of every connection.
	PrivacyMode bool

	// HashDistinctIDs replaces the ids of users by [HashID] under HashKey, and
	// drops what else says who they are. Without a key the ids are dropped.
	HashDistinctIDs bool
	HashKey         []byte

	// KeepProperties names custom properties that privacy mode must not remove,
	// although their names or values look like content.
	KeepProperties []string
}

// Outbound returns a copy of the event that is fit to leave.
func Outbound(e *event.Event, p OutPolicy) *event.Event {
	c := e.Clone()
	if p.PrivacyMode || e.Private {
		c.DropContent()
		c.ErrorMessage = ""
		c.Properties = nil
		c.ModelParameters = nil
		c.Private = true
	}
	if p.HashDistinctIDs {
		c.DistinctID = HashID(p.HashKey, c.DistinctID)
		c.User = HashID(p.HashKey, c.User)
	}
	return c
}

// HashID returns the lower-case hex HMAC-SHA256 of id under key: the same user
// gives the same 64 characters within a project, and nobody without the key can
// try ids out. It returns "" for an empty id and for an empty key, because a
// hash without a key is open to guessing.
func HashID(key []byte, id string) string {
	if id == "" || len(key) == 0 {
		return ""
	}
	m := hmac.New(sha256.New, key)
	m.Write([]byte(id))
	return hex.EncodeToString(m.Sum(nil))
}
