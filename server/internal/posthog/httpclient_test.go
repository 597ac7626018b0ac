package posthog_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/posthog"
)

func TestNewHTTPClient(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	defer s.Close()
	if _, err := posthog.NewHTTPClient(posthog.ClientConfig{}, false).Get(s.URL); err == nil || !strings.Contains(err.Error(), "not public") {
		t.Errorf("a loopback address: %v, want it refused", err)
	}
	res, err := posthog.NewHTTPClient(posthog.ClientConfig{}, true).Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusFound {
		t.Errorf("status %d, want the redirect itself", res.StatusCode)
	}
}
