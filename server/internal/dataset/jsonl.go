package dataset

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// ParseJSONL reads examples, one JSON object a line, as [WriteJSONL] writes
// them. Empty lines are skipped. For files of others it also takes "input" (a
// text, the user's message) in place of messages, and "output" for expected.
func ParseJSONL(in io.Reader) ([]Example, error) {
	sc := bufio.NewScanner(in)
	sc.Buffer(make([]byte, 64<<10), 2*MaxExample)
	var out []Example
	for n := 1; sc.Scan(); n++ {
		line := bytes.TrimSpace(sc.Bytes())
		if len(line) == 0 {
			continue
		}
		if len(out) == MaxExamples {
			return nil, event.NewError(event.CodeTooLarge, fmt.Sprintf("the file has more than %d examples", MaxExamples), "import fewer at a time", nil)
		}
		x, err := parseExample(line)
		if err != nil {
			e := *event.AsError(err)
			e.Message = fmt.Sprintf("line %d: %s", n, e.Message)
			return nil, &e
		}
		out = append(out, x)
	}
	switch err := sc.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, event.NewError(event.CodeTooLarge, "a line is too long", "an example has at most 512 kB", err)
	case err != nil:
		return nil, event.NewError(event.CodeInvalid, "the file could not be read completely", "upload it again", err)
	case len(out) == 0:
		return nil, event.Invalid("the file has no examples", `write one per line:  {"messages":[{"role":"user","content":"…"}],"expected":"…"}`)
	}
	return out, nil
}

func parseExample(line []byte) (Example, error) {
	var v struct {
		Example
		Input  *string `json:"input"`
		Output *string `json:"output"`
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		hint := `the fields are messages, variables, tools, expected, answer, note, generation_id, trace_id, provider, model, prompt_name, id, created_at; or input and output`
		if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return Example{}, event.NewError(event.CodeInvalid, "unknown field "+event.FirstChars(field, 80), hint, err)
		}
		return Example{}, event.NewError(event.CodeInvalid, "the line is not a JSON example", hint, err)
	}
	if v.Input != nil && len(v.Messages) == 0 {
		b, err := encode(*v.Input)
		if err != nil {
			return Example{}, err
		}
		v.Messages = append(v.Messages, message("user", bytes.TrimSpace(b)))
	}
	if v.Output != nil && v.Expected == "" {
		v.Expected = *v.Output
	}
	if v.ID != "" && !validID(v.ID) {
		return Example{}, event.Invalid("the example's id cannot be used", "leave it out, or use letters, digits, _ and -")
	}
	return v.Example, v.check()
}

// WriteJSONL writes a dataset's examples, one a line.
func (r *Registry) WriteJSONL(ctx context.Context, w io.Writer, projectID, set string) error {
	list, err := r.Examples(ctx, projectID, set)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, x := range list {
		if err := enc.Encode(x); err != nil {
			return fmt.Errorf("write the dataset: %w", err)
		}
	}
	return nil
}
