package prompt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"

	"go.yaml.in/yaml/v3"

	"github.com/hedgerow/hedgerow/event"
)

// File is a prompt as a file, to be kept next to the code that uses it.
type File struct {
	Name        string `json:"name" yaml:"name"`
	Description string `json:"description,omitempty" yaml:"description,omitempty"`
	// Version is the number of the exported version. An import ignores it: the
	// new version has the next number.
	Version int `json:"version,omitempty" yaml:"version,omitempty"`
	Draft   `yaml:",inline"`
}

// MaxFile bounds a file, in bytes.
const MaxFile = 1 << 20

// Export returns a version as a file. ref is as in [Registry.Version].
func (r *Registry) Export(projectID, name, ref string) (File, error) {
	p, ok := r.Prompt(projectID, name)
	if !ok {
		return File{}, noPrompt(name)
	}
	v, ok := r.Version(projectID, name, ref)
	if !ok {
		return File{}, noVersion(name, ref)
	}
	return File{Name: p.Name, Description: p.Description, Version: v.Number, Draft: v.Draft()}, nil
}

// YAML writes the file as YAML.
func (f File) YAML() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(f); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}

// JSON writes the file as indented JSON.
func (f File) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(f, "", "  ")
	return append(b, '\n'), err
}

// ParseFile reads a file, YAML or JSON. An unknown field is an error: it would
// otherwise be lost in silence.
func ParseFile(b []byte) (File, error) {
	if len(b) > MaxFile {
		return File{}, event.NewError(event.CodeTooLarge, "the file is larger than 1 MiB", "move long text into a variable", nil)
	}
	const hint = "a file has name, description, messages, variables, provider, model, params and note; export a prompt for an example"
	var f File
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil {
		if errors.Is(err, io.EOF) {
			return File{}, event.Invalid("the file is empty", hint)
		}
		return File{}, event.NewError(event.CodeInvalid, "the file is not a valid prompt", hint, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return File{}, event.Invalid("the file has more than one document", "import one prompt at a time")
	}
	if f.Name == "" {
		return File{}, event.Invalid("the file has no prompt name", hint)
	}
	return f, nil
}

// Import makes the file's prompt or, where there is one of its name, adds its
// version. added is false where the newest version is the same already. The
// description is changed where the file has one.
func (r *Registry) Import(ctx context.Context, actor, projectID string, f File) (v Version, added bool, err error) {
	p, ok := r.Prompt(projectID, f.Name)
	if !ok {
		if _, err := r.Create(ctx, actor, projectID, f.Name, f.Description, f.Draft); err != nil {
			return Version{}, false, err
		}
		v, ok := r.Version(projectID, f.Name, Latest)
		if !ok {
			return Version{}, false, noPrompt(f.Name)
		}
		return v, true, nil
	}
	if v, added, err = r.AddVersion(ctx, actor, projectID, f.Name, f.Draft); err != nil {
		return Version{}, false, err
	}
	if f.Description != "" && f.Description != p.Description {
		err = r.Describe(ctx, actor, projectID, f.Name, f.Description)
	}
	return v, added, err
}
