package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// spec describes a tool.
type spec struct {
	name, title, description string

	need        []project.Scope // all of them; a tool that needs no more than read only reads
	destructive bool            // it removes or overwrites
	open        bool            // it sends requests to PostHog
	repeats     bool            // each call has its own effect
	// input narrows the schemas of the arguments beyond what Go types say.
	input func(properties map[string]*jsonschema.Schema)
}

// What tools require of a key. spend is for what has models called at the
// project's expense.
var (
	read   = []project.Scope{project.ScopeRead}
	write  = []project.Scope{project.ScopeWrite}
	ingest = []project.Scope{project.ScopeIngest}
	admin  = []project.Scope{project.ScopeAdmin}
	spend  = []project.Scope{project.ScopeWrite, project.ScopeGateway}
)

// onlyUsable leaves out of the list of tools those that the caller's key may not
// use: an assistant does not try what it does not see.
func (s *Server) onlyUsable(next sdk.MethodHandler) sdk.MethodHandler {
	return func(ctx context.Context, method string, req sdk.Request) (sdk.Result, error) {
		res, err := next(ctx, method, req)
		if list, ok := res.(*sdk.ListToolsResult); ok && err == nil {
			who, out := callerOf(ctx), *list
			out.Tools = slices.DeleteFunc(slices.Clone(list.Tools), func(t *sdk.Tool) bool { return !who.scopes.Has(s.needs[t.Name]...) })
			return &out, nil
		}
		return res, err
	}
}

// usesAny reports whether there is a tool that a key may use.
func (s *Server) usesAny(scopes project.Scopes) bool {
	for _, need := range s.needs {
		if scopes.Has(need...) {
			return true
		}
	}
	return false
}

// add registers a tool. Its schemas come from In and Out, and every call goes
// through the same steps. The SDK's own typed tools are not used because their
// messages quote the arguments, which may be keys.
func add[In, Out any](s *Server, sp spec, handle func(context.Context, caller, In) (Out, error)) {
	in := schemaOf[In]()
	if sp.input != nil {
		sp.input(in.Properties)
	}
	names := slices.Sorted(maps.Keys(in.Properties))
	tool := &sdk.Tool{
		Name: sp.name, Title: sp.title, Description: sp.description, InputSchema: in, OutputSchema: schemaOf[Out](),
		Annotations: &sdk.ToolAnnotations{Title: sp.title, ReadOnlyHint: slices.Equal(sp.need, read), IdempotentHint: !sp.repeats,
			DestructiveHint: &sp.destructive, OpenWorldHint: &sp.open},
	}
	s.needs[sp.name] = sp.need
	call := func(ctx context.Context, args json.RawMessage) (out Out, err error) {
		defer func() {
			if v := recover(); v != nil { // with what may quote the arguments
				s.log.Error("mcp tool panicked", "tool", sp.name, "type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
				err = event.NewError(event.CodeInternal, "internal error in hedgerow", "see hedgerow's log for the cause", nil)
			}
		}()
		who := callerOf(ctx)
		if !who.scopes.Has(sp.need...) {
			return out, project.MissingScope(who.scopes, sp.need...)
		}
		var v In
		if err := readArguments(args, &v, names); err != nil {
			return out, err
		}
		return handle(project.WithRole(project.WithActor(ctx, who.actor), who.scopes.ContentRole()), who, v)
	}
	s.tools.AddTool(tool, func(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		out, err := call(ctx, req.Params.Arguments)
		var text []byte
		if err == nil {
			text, err = json.Marshal(out)
		}
		if err != nil {
			e := event.AsError(err)
			if e.HTTPStatus() >= 500 {
				s.log.Error("mcp tool failed", "tool", sp.name, "err", err)
			}
			return &sdk.CallToolResult{IsError: true, Content: []sdk.Content{&sdk.TextContent{Text: errorText(e)}}}, nil
		}
		return &sdk.CallToolResult{StructuredContent: json.RawMessage(text), Content: []sdk.Content{&sdk.TextContent{Text: string(text)}}}, nil
	})
}

// errorText is an error as a model reads it. The technical cause is not in it.
func errorText(e *event.Error) string {
	text := "Error (" + string(e.Code) + "): " + e.Message + "."
	if e.Hint != "" {
		text += "\nWhat to do: " + e.Hint + "."
	}
	return text
}

// readArguments reads the arguments strictly: an unknown one is a mistake that
// its sender wants to know of. Its messages name arguments and never quote one.
func readArguments(args json.RawMessage, into any, names []string) error {
	if len(bytes.TrimSpace(args)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(args))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		return nil
	}
	known := "the arguments are " + strings.Join(names, ", ")
	var wrong *json.UnmarshalTypeError
	switch unknown, found := strings.CutPrefix(err.Error(), "json: unknown field "); {
	case found:
		return event.Invalid("unknown argument "+unknown, known)
	case errors.As(err, &wrong) && wrong.Field != "":
		return event.Invalid(fmt.Sprintf("the argument %q is not %s", wrong.Field, kindName(wrong.Type)), "see the tool's schema")
	}
	return event.Invalid("the arguments cannot be read", "send a JSON object; "+known)
}

func kindName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	}
	return "an object"
}

// schemaOf derives a schema from a Go type. Unlike the library's own, no field
// may be null: what is not known or not given is left out.
func schemaOf[T any]() *jsonschema.Schema {
	number, integer := &jsonschema.Schema{Type: "number"}, &jsonschema.Schema{Type: "integer"}
	s, err := jsonschema.For[T](&jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[event.Int]():          integer,
		reflect.TypeFor[event.Opt[float64]](): number,
		reflect.TypeFor[event.Opt[bool]]():    {Type: "boolean"},
		reflect.TypeFor[query.USD]():          number,
		reflect.TypeFor[json.RawMessage]():    {},
	}})
	if err != nil {
		panic(err) // of a type in this package: its tests meet it
	}
	dropNull(s)
	return s
}

func dropNull(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if types := slices.DeleteFunc(slices.Clone(s.Types), func(t string) bool { return t == "null" }); len(types) == 1 {
		s.Type, s.Types = types[0], nil
	}
	for _, p := range s.Properties {
		dropNull(p)
	}
	dropNull(s.Items)
	dropNull(s.AdditionalProperties)
}

// enum narrows a string to values.
func enum[T ~string](s *jsonschema.Schema, values ...T) {
	for _, v := range values {
		s.Enum = append(s.Enum, string(v))
	}
}

// between narrows a number.
func between(s *jsonschema.Schema, low, high float64) { s.Minimum, s.Maximum = &low, &high }
