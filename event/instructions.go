package event

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// JoinInstructions joins the texts of system and developer messages for
// [HashInstructions]: line ends as \n, each text trimmed, empty ones omitted,
// separated by one empty line.
func JoinInstructions(texts []string) string {
	kept := make([]string, 0, len(texts))
	for _, t := range texts {
		if t = strings.TrimSpace(strings.ReplaceAll(t, "\r\n", "\n")); t != "" {
			kept = append(kept, t)
		}
	}
	return strings.Join(kept, "\n\n")
}

// HashInstructions returns the value of [Event.PromptHash]: "sha256:" and the
// hex hash of the joined instructions, or "" if there are none.
func HashInstructions(texts []string) string {
	joined := JoinInstructions(texts)
	if joined == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(joined))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// ChatMessage is a message of a conversation that is not an instruction. It is
// compared with the user and assistant messages of prompts.
type ChatMessage struct {
	Role string // user or assistant
	Text string // the text parts only
}
