package enrich_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/enrich"
)

func TestHugeNumbers(t *testing.T) {
	digits := "1" + strings.Repeat("0", 400)
	for in, want := range map[string]string{
		`1`: `1`, `-0`: `-0`, `1e308`: `1e308`, `1e309`: `"1e309"`, `-1e999999999`: `"-1e999999999"`, `1E+400`: `"1E+400"`, `1e-400`: `1e-400`, digits: `"` + digits + `"`, `0.` + digits: `0.` + digits,
		`"1e999"`: `"1e999"`, `{"a":[1e999,2,{"b":-1e999}],"1e999":"\"1e999"}`: `{"a":["1e999",2,{"b":"-1e999"}],"1e999":"\"1e999"}`, `["\\",1e999]`: `["\\","1e999"]`, `["\\\"",1e999,true]`: `["\\\"","1e999",true]`, `[]`: `[]`, `null`: `null`,
		`"\ud800"`: `"\ufffd"`, `"\udc00\ud800x"`: `"\ufffd\ufffdx"`, `"\ud83d\ude00"`: `"\ud83d\ude00"`, `"\ud83d\ud83d\ude00"`: `"\ufffd\ud83d\ude00"`, `"\\ud800"`: `"\\ud800"`, `"\\\ud800"`: `"\\\ufffd"`,
		`{"\uD800":[1e999,"\uDFFF","\u0000\u00e9\n"]}`: `{"\ufffd":["1e999","\ufffd","\u0000\u00e9\n"]}`, `"\ud800\n\udc00"`: `"\ufffd\n\ufffd"`, `"\ud800😀"`: `"\ufffd😀"`,
	} {
		e := &event.Event{Name: event.Generation, Properties: map[string]json.RawMessage{"p": json.RawMessage(in)}, ModelParameters: map[string]json.RawMessage{"p": json.RawMessage(in)}}
		e.Content.Input = json.RawMessage(in)
		enrich.Normalise(e, time.Now())
		for where, got := range map[string]json.RawMessage{"property": e.Properties["p"], "parameter": e.ModelParameters["p"], "content": e.Content.Input} {
			if string(got) != want {
				t.Errorf("%.60s as a %s became %.60s, want %.60s", in, where, got, want)
			}
		}
	}
}

// FuzzHugeNumbers checks that all kept numbers can be read as float64.
func FuzzHugeNumbers(f *testing.F) {
	for _, s := range []string{`{"a":[1e999,"\\\"",-1E+400]}`, `"\\"`, `[1e9999,1e-9999,0.1]`, `"\ud800\u00"`, `"\ud83d\ude00\udc00"`, `{"\\":1e999}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !gjson.ValidBytes(b) {
			return
		}
		e := &event.Event{Name: event.Generation}
		e.Content.Input = b
		enrich.Normalise(e, time.Now())
		var v any
		if err := json.Unmarshal(e.Content.Input, &v); err != nil && len(e.Content.Input) > 0 && !event.NestedDeeper(b, 900) {
			t.Errorf("%q became %q: %v", b, e.Content.Input, err)
		}
	})
}
