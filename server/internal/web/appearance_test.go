package web_test

import (
	"net/url"
	"strings"
	"testing"
)

// TestAppearance keeps a person's theme and side bar in cookies, by a form that works
// without scripts and leads back to its page.
func TestAppearance(t *testing.T) {
	s := newSite(t, sample("default"))
	s.client = s.as(s.admin)
	s.shows("/p/default/overview", `data-theme="system"`)
	for _, theme := range []string{"dark", "light", "system"} {
		resp, body := s.send("/appearance", url.Values{"theme": {theme}, "next": {"/p/default/events?model=x"}})
		if resp.StatusCode != 200 || resp.Request.URL.RequestURI() != "/p/default/events?model=x" || !strings.Contains(body, `data-theme="`+theme+`"`) {
			t.Errorf("%s leads to %s, %d", theme, resp.Request.URL, resp.StatusCode)
		}
		s.shows("/account", `data-theme="`+theme+`"`, `value="`+theme+`" aria-pressed="true"`)
	}
	s.send("/appearance", url.Values{"theme": {"dark"}})
	if resp, body := s.send("/appearance", url.Values{"theme": {`"><script>`}, "next": {"https://evil.example/"}}); resp.Request.URL.Host != strings.TrimPrefix(s.server.URL, "http://") || !strings.Contains(body, `data-theme="dark"`) {
		t.Errorf("a theme that is none leads to %s", resp.Request.URL)
	}
	if _, body := s.post("/sign-out", nil); !strings.Contains(body, `data-theme="dark"`) {
		t.Error("the theme ends with the session")
	}
}
