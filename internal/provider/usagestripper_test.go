package provider_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hedgerow/hedgerow/internal/provider"
)

// held is how much of an event the stripper buffers.
const held = 64 << 10

// streams are recorded responses and edge cases of the SSE format.
func streams(t testing.TB) [][]byte {
	t.Helper()
	files, err := filepath.Glob("../simulate/provider/testdata/*stream*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded streams: %v", err)
	}
	var all [][]byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	const (
		delta = `data: {"id":"c","choices":[{"index":0,"delta":{"content":"a\"usage\": {}"}}],"usage":null}`
		last  = `data: {"id":"c","choices":[],"usage":{"prompt_tokens":1}}`
	)
	for _, end := range []string{"\n", "\r\n", "\r"} {
		all = append(all,
			[]byte(delta+end+end+last+end+end+"data: [DONE]"+end+end),
			[]byte(": comment"+end+"event: x"+end+delta+end+"id: 1"+end+end+end+": c"+end+last+end+end),
			[]byte(last+end), []byte(delta+end), []byte(last), []byte(delta),
			[]byte("data: {\"usage\":null,"+end+"data: \"choices\":[]}"+end+end),
			[]byte(`data: {"usage":null}`+end+end+`data:{"usage" : null , "a":1}`+end+end+`data: {"a":1 , "usage" :null }`+end+end),
			[]byte(`data: {"a":1,"usage":null,"b":2,"usage":null}`+end+end+`data: {"choices":[ ],"usage":{},"usage":{}}`+end+end),
			[]byte(`data: {"choices":[],"usage":{}`+end+end+`data: {"choices":[],"usage":{}}x`+end+end),
		)
	}
	all = append(all, slices.Concat([]byte("data: {\"usage\":null,\"a\":\""), bytes.Repeat([]byte("x"), held), []byte("\"}\n\ndata: {\"usage\":null}\n\n")))
	return all
}

// strip runs a stream through the stripper, split after every n bytes.
func strip(b []byte, sizes func(i int) int) []byte {
	var s provider.UsageStripper
	var out []byte
	for i := 0; len(b) > 0; i++ {
		n := min(max(sizes(i), 1), len(b))
		out = append(out, s.Write(b[:n])...)
		b = b[n:]
	}
	return append(out, s.Flush()...)
}

// FuzzStrip splits a stream anywhere: the output must not depend on it, contain
// nothing that is not in the input, and lack only what usage adds.
func FuzzStrip(f *testing.F) {
	for _, b := range streams(f) {
		f.Add(b, uint16(1), uint16(7))
	}
	f.Fuzz(func(t *testing.T, b []byte, x, y uint16) {
		whole := strip(b, func(int) int { return len(b) })
		for _, sizes := range []func(int) int{
			func(int) int { return 1 }, func(int) int { return int(x) % 97 }, func(i int) int { return []int{int(x), int(y)}[i%2] % 301 },
		} {
			if cut := strip(b, sizes); !bytes.Equal(cut, whole) && len(b) < held {
				t.Fatalf("split differently, %q became %q, not %q", b, cut, whole)
			}
		}
		if !bytes.Contains(b, []byte(`"usage"`)) && !bytes.Contains(b, []byte(`\u`)) && !bytes.Equal(whole, b) {
			t.Fatalf("without usage, %q became %q", b, whole)
		}
		if i, ok := subsequence(whole, b); !ok {
			t.Fatalf("%q became %q, which from %d on is not in the input", b, whole, i)
		}
		if twice := strip(whole, func(int) int { return len(whole) }); len(b) < held && !bytes.Contains(b, []byte("usage\\")) && len(twice) > len(whole) {
			t.Fatalf("%q grew to %q", whole, twice)
		}
	})
}

// subsequence reports whether a can be obtained by deleting from b.
func subsequence(a, b []byte) (int, bool) {
	i := 0
	for _, c := range b {
		if i < len(a) && a[i] == c {
			i++
		}
	}
	return i, i == len(a)
}

// TestStripEverySplit splits every stream into two and three parts at every
// position.
func TestStripEverySplit(t *testing.T) {
	for _, b := range streams(t) {
		if len(b) > 4<<10 {
			b = b[:4<<10]
		}
		want := strip(b, func(int) int { return len(b) })
		for n := range len(b) {
			if got := strip(b, func(i int) int { return []int{n + 1, len(b)}[min(i, 1)] }); !bytes.Equal(got, want) {
				t.Fatalf("cut at %d: %q, want %q", n+1, got, want)
			}
			if got := strip(b, func(i int) int { return []int{n/2 + 1, n/2 + 1, len(b)}[min(i, 2)] }); !bytes.Equal(got, want) {
				t.Fatalf("cut in three at %d: %q, want %q", n/2+1, got, want)
			}
		}
	}
}

func TestStrip(t *testing.T) {
	const done = "data: [DONE]\n\n"
	for _, c := range []struct{ name, in, want string }{
		{"the usage chunk", `data: {"choices":[],"usage":{"prompt_tokens":1}}` + "\n\n" + done, done},
		{"with other members", `data: {"id":"x","choices": [ ] ,"usage": {"a":{"b":[1]}},"x_groq":{}}` + "\r\n\r\n" + done, done},
		{"with an event's name and a comment", ": ping\n\nevent: x\n" + `data: {"choices":[],"usage":{}}` + "\n\n" + done, ": ping\n\n" + done},
		{"a null in the middle", `data: {"choices":[{}],"usage":null,"x":1}` + "\n\n", `data: {"choices":[{}],"x":1}` + "\n\n"},
		{"a null at the end", `data: {"choices":[{}],"usage":null}` + "\n\n", `data: {"choices":[{}]}` + "\n\n"},
		{"a null at the beginning", `data: {"usage":null,"choices":[{}]}` + "\n\n", `data: {"choices":[{}]}` + "\n\n"},
		{"a null alone", `data: {"usage":null}` + "\n\n", `data: {}` + "\n\n"},
		{"with spaces", `data:  { "a" : 1 , "usage" : null , "b" : 2 } ` + "\n\n", `data:  { "a" : 1 , "b" : 2 } ` + "\n\n"},
		{"with spaces at the end", `data: { "a" : 1 , "usage" : null }` + "\n\n", `data: { "a" : 1 }` + "\n\n"},
		{"usage with a choice", `data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}` + "\n\n", `data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}` + "\n\n"},
		{"usage in the text", `data: {"choices":[{"delta":{"content":"\"usage\":null"}}]}` + "\n\n", `data: {"choices":[{"delta":{"content":"\"usage\":null"}}]}` + "\n\n"},
		{"usage deeper", `data: {"choices":[],"x":{"usage":{}}}` + "\n\n", `data: {"choices":[],"x":{"usage":{}}}` + "\n\n"},
		{"Azure's filter results", `data: {"choices":[],"prompt_filter_results":[{}],"usage":null}` + "\n\n", `data: {"choices":[],"prompt_filter_results":[{}]}` + "\n\n"},
		{"broken JSON", `data: {"choices":[],"usage":{}` + "\n\n", `data: {"choices":[],"usage":{}` + "\n\n"},
		{"data on two lines", "data: {\"choices\":[],\ndata: \"usage\":{}}\n\n", "data: {\"choices\":[],\ndata: \"usage\":{}}\n\n"},
		{"unended usage chunk", `data: {"choices":[],"usage":{}}` + "\n", ""},
		{"unended other chunk", `data: {"choices":[{}]` + "\n", `data: {"choices":[{}]` + "\n"},
		{"CR line ends", "data: {\"choices\":[],\"usage\":{}}\r\rdata: [DONE]\r\r", "data: [DONE]\r\r"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(strip([]byte(c.in), func(int) int { return 1 << 20 })); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}
