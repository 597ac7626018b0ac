package event_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
)

// TestFields compares the table with the struct: each field occurs once, its
// accessor points to it, and names are unique.
func TestFields(t *testing.T) {
	var e event.Event
	want := make(map[string]reflect.Value)
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		for i := range v.NumField() {
			f, name := v.Field(i), path+v.Type().Field(i).Name
			if !v.Type().Field(i).IsExported() {
				continue
			}
			switch f.Interface().(type) {
			case event.Usage, event.Cost, event.Content:
				walk(f, name+".")
			default:
				want[name] = f
			}
		}
	}
	walk(reflect.ValueOf(&e).Elem(), "")
	if len(event.Fields) != len(want) {
		t.Errorf("%d fields, want %d", len(event.Fields), len(want))
	}
	seen := make(map[string]string)
	for _, f := range event.Fields {
		at := reflect.ValueOf(f.At).Call([]reflect.Value{reflect.ValueOf(&e)})[0]
		if w, ok := want[f.Path]; !ok || at.Pointer() != w.Addr().Pointer() || at.Type().Elem().Kind() != w.Kind() {
			t.Errorf("%s: its accessor points elsewhere", f.Path)
		}
		for what, name := range map[string]string{"frame ": f.Object + "." + f.Key, "name ": f.Name, "PostHog ": f.PostHog, "column ": f.Column, "API ": f.Object + "." + f.API} {
			if name == "" || strings.HasSuffix(name, ".") || f.Object == "" && strings.HasPrefix(f.Path, "Content.") {
				continue
			}
			if other := seen[what+name]; other != "" {
				t.Errorf("%s and %s share the %s%s", other, f.Path, what, name)
			}
			seen[what+name] = f.Path
		}
		if f.Name == "" {
			t.Errorf("%s has no name", f.Path)
		}
		switch f.At.(type) {
		case func(*event.Event) *event.Int, func(*event.Event) *int, func(*event.Event) *int64:
			if f.Kind.Max == 0 {
				t.Errorf("%s has no bound: give it a kind", f.Path)
			}
		case func(*event.Event) *string:
			if f.Kind.Max == 0 && f.Path != "UUID" && f.Path != "ProjectID" {
				t.Errorf("%s has no bound: give it a kind", f.Path)
			}
		}
	}
}
