package page

import "testing"

func TestSafeNext(t *testing.T) {
	for next, want := range map[string]string{
		"/p/default/events?model=x": "/p/default/events?model=x", "": "/", "events": "/", "https://evil.example/": "/", "//evil.example": "/",
		`/\evil.example`: "/", "/\t/evil.example": "/", "javascript:alert(1)": "/", "/sign-in?token=x": "/", "/traces/a%20b": "/traces/a%20b",
	} {
		if got := SafeNext(next); got != want {
			t.Errorf("after signing in %q leads to %q, want %q", next, got, want)
		}
	}
}
