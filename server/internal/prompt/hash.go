package prompt

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/hedgerow/hedgerow/internal/template"
)

// ContentHash is "sha256:" and the hex hash of everything in a draft that
// decides what is sent: messages, variables, provider, model and parameters, not
// the note. It distinguishes two versions.
func ContentHash(d Draft) string {
	d.Note = ""
	if len(d.Messages) == 0 { // nil and empty are the same to a reader
		d.Messages = nil
	}
	b, err := json.Marshal(d) // struct order, and sorted keys in maps
	if err != nil {
		return "" // a draft that was checked has only what JSON has
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// HashText is the hash of the messages' instructions as in an event's prompt_hash
// ([event.HashInstructions]), so that the two can be compared. It is "" if the
// instructions have variables, because their hash changes with the values, and if
// there are none, because user messages are not hashed.
func HashText(messages []Message) string { return template.NewPattern(messages).Hash() }
