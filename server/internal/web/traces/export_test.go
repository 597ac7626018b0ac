package traces

import (
	"encoding/json"
	"io"

	"github.com/hedgerow/hedgerow/server/internal/query"
)

// Curl is a call as a command.
func Curl(e *query.Event) string { return curl(e) }

// Said is what a page shows of a content: of each message its role, and of each
// part its kind, words and link.
func Said(content string) (out [][]string) {
	for _, m := range Messages(json.RawMessage(content)) {
		said := []string{m.Role}
		for _, p := range m.Parts {
			said = append(said, p.Kind, p.Text, p.Link)
		}
		out = append(out, said)
	}
	return out
}

// WriteTrace writes a trace as a file.
func WriteTrace(w io.Writer, t *query.Trace) error { return writeTrace(w, t) }

// Indent is JSON as a page shows it.
func Indent(raw json.RawMessage) string { return indent(raw) }

// SaidSize is how many bytes a page shows of a prompt or an answer, and of how many
// messages.
func SaidSize(content string) (size, list int) {
	for _, m := range Clipped(Messages(json.RawMessage(content)), maxSaid) {
		list++
		for _, p := range m.Parts {
			size += len(p.Text)
		}
	}
	return size, list
}
