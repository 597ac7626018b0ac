package rawjson_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

func TestText(t *testing.T) {
	for in, want := range map[string][2]string{ // Text, Scalar
		``:                {"", ""},
		`null`:            {"", ""},
		` "a" `:           {"a", "a"},
		`""`:              {"", ""},
		`"a\"\u00e9\\"`:   {`a"é\`, `a"é\`},
		`"é😀"`:            {"é😀", "é😀"},
		`1.50`:            {"1.50", "1.50"},
		`true`:            {"true", "true"},
		`{"a":"b"}`:       {`{"a":"b"}`, ""},
		` ["a"]`:          {`["a"]`, ""},
		`"`:               {"", ""},
		`"unterminated\"`: {"", ""},
	} {
		v := json.RawMessage(in)
		if got := [2]string{rawjson.Text(v), rawjson.Scalar(v)}; got != want {
			t.Errorf("Text and Scalar of %s = %q, want %q", in, got, want)
		}
	}
}

func TestMembersAndElements(t *testing.T) {
	const in = ` { "a" : 1 , "b\n":[ true, {"x":"}\"]"} ,null,"" ] , "a":"last" , "empty":{} } `
	var got strings.Builder
	for k, v := range rawjson.Members([]byte(in)) {
		got.WriteString(rawjson.Unescape(k) + "=" + string(v) + ";")
		for e := range rawjson.Elements(v) {
			got.WriteString("[" + string(e) + "]")
		}
	}
	const want = "a=1;b\n=[ true, {\"x\":\"}\\\"]\"} ,null,\"\" ];[true][{\"x\":\"}\\\"]\"}][null][\"\"]a=\"last\";empty={};"
	if got.String() != want {
		t.Errorf("got\n%s, want\n%s", got.String(), want)
	}
	for range rawjson.Members([]byte(`[1]`)) {
		t.Error("an array has members")
	}
	for range rawjson.Elements([]byte(`{"a":1}`)) {
		t.Error("an object has elements")
	}
	for range rawjson.Elements([]byte(` [ ] `)) {
		t.Error("an empty array has elements")
	}
}

// FuzzScan compares with encoding/json on valid JSON; other text must not panic.
func FuzzScan(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":"\\\""}],"c":null}`, `[[],{},"x",1e9]`, `{"a"`, `{"a":}`, `[1,`, `"\"`, `{`, `{"a":1}x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		members := make(map[string]string)
		for k, v := range rawjson.Members(b) {
			members[rawjson.Unescape(k)] = string(v)
		}
		var elements []string
		for v := range rawjson.Elements(b) {
			elements = append(elements, string(v))
		}
		o := rawjson.NewObject(b)
		for m, ok := o.Next(); ok; m, ok = o.Next() {
			_, _ = o.Name(m), o.Value(m)
		}
		_ = rawjson.Text(b)
		if !utf8.Valid(b) || !json.Valid(b) {
			return
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(b, &object) == nil && object != nil {
			if !o.Done() || len(members) != len(object) {
				t.Fatalf("%s: done %t, members %q", b, o.Done(), members)
			}
			for k, v := range object {
				if members[k] != string(v) {
					t.Errorf("%s: %q is %q, want %q", b, k, members[k], v)
				}
			}
		}
		var array []json.RawMessage
		if json.Unmarshal(b, &array) == nil && len(array) != len(elements) {
			t.Fatalf("%s: %d elements, want %d", b, len(elements), len(array))
		}
		for i, v := range array {
			if elements[i] != string(v) {
				t.Errorf("%s: element %d is %q, want %q", b, i, elements[i], v)
			}
		}
		var s string
		if json.Unmarshal(b, &s) == nil && string(b) != "null" && rawjson.Text(b) != s && strings.TrimSpace(string(b)) != "null" {
			t.Errorf("Text(%s) = %q, want %q", b, rawjson.Text(b), s)
		}
	})
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "plain", "<a href=\"x\">\\&\u2028", "\x00\t\r\n\x1f\x7f", "é\xff😀"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(rawjson.Quote(s), &got); err != nil {
			t.Fatal(err)
		}
		if want := string([]rune(s)); got != want { // a conversion makes U+FFFD of each invalid byte
			t.Errorf("%q is read back as %q", s, got)
		}
	})
}
