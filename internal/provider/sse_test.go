package provider

import (
	"bufio"
	"strings"
	"testing"
)

// lines reads server-sent events line by line, as the WHATWG specification
// describes it.
func lines(body string) (out []string) {
	body = strings.TrimPrefix(body, "\uFEFF")
	body = strings.ReplaceAll(strings.ReplaceAll(body, "\r\n", "\n"), "\r", "\n")
	var data []string
	sc := bufio.NewScanner(strings.NewReader(body))
	sc.Buffer(nil, 1<<24)
	for sc.Scan() {
		line := sc.Text()
		if line == "" {
			if data != nil {
				out = append(out, strings.Join(data, "\n"))
			}
			data = nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		if field == "data" {
			data = append(data, strings.TrimPrefix(value, " "))
		}
	}
	if data != nil {
		out = append(out, strings.Join(data, "\n"))
	}
	return out
}

func FuzzFrames(f *testing.F) {
	for _, s := range []string{"data: a\n\n", "data: a\r\n\r\ndata:b\r\n", "\uFEFF:c\n\ndata: a\ndata: b\n\n", "data: a\rdata: b\r\r", "event: x\ndata\n\n", "id: 1\n\n\n", "data: a\r\n\rdata: b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		want := lines(body)
		r := newFrames(body)
		last := 0
		for i := 0; ; i++ {
			fr, ok := r.next()
			if !ok {
				if i != len(want) {
					t.Fatalf("%q: %d events, want %d", body, i, len(want))
				}
				return
			}
			if i >= len(want) || fr.data != want[i] {
				t.Fatalf("%q: event %d is %q, want %q", body, i, fr.data, want)
			}
			if fr.end < last || fr.end > len(body) {
				t.Fatalf("%q: event %d ends at %d", body, i, fr.end)
			}
			last = fr.end
		}
	})
}
