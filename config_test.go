package hedgerow_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

func TestConfigErrors(t *testing.T) {
	ok := hedgerow.Config{APIKey: simposthog.Token, Host: host}
	for _, tt := range []struct {
		name string
		set  func(*hedgerow.Config)
		want string
	}{
		{"no key", func(c *hedgerow.Config) { c.APIKey = "" }, "API key is missing"},
		{"personal key", func(c *hedgerow.Config) { c.APIKey = "phx_abc" }, "personal or secret key"},
		{"hedgerow's API key", func(c *hedgerow.Config) { c.APIKey = "hr_abc" }, "project token"},
		{"provider's key", func(c *hedgerow.Config) { c.APIKey = "sk-abc" }, "provider's key"},
		{"long key", func(c *hedgerow.Config) { c.APIKey = "phc_" + strings.Repeat("a", 61) }, "longer than 64"},
		{"odd key", func(c *hedgerow.Config) { c.APIKey = "phc_ä" }, "character"},
		{"no URL", func(c *hedgerow.Config) { c.Host = "us.i.posthog.com" }, "not an http or https URL"},
		{"other scheme", func(c *hedgerow.Config) { c.Host = "ftp://posthog.test" }, "not an http or https URL"},
		{"query", func(c *hedgerow.Config) { c.Host = host + "?a=b" }, "query"},
		{"negative", func(c *hedgerow.Config) { c.FlushAt = -1 }, "FlushAt is negative"},
		{"small queue", func(c *hedgerow.Config) { c.QueueSize = 10 }, "more than the 10 events"},
		{"long id", func(c *hedgerow.Config) { c.DefaultDistinctID = strings.Repeat("a", 201) }, "DefaultDistinctID"},
	} {
		c := ok
		tt.set(&c)
		client, err := hedgerow.New(c)
		var e *event.Error
		if client != nil || !errors.As(err, &e) || e.Code != event.CodeInvalid || e.Hint == "" || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error that says %q and a hint", tt.name, err, tt.want)
		}
		if c.APIKey != "" && err != nil && strings.Contains(err.Error(), c.APIKey) {
			t.Errorf("%s: the error quotes the key", tt.name)
		}
	}
}

func TestEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"HEDGEROW_FLUSH_AT": "x", "HEDGEROW_FLUSH_INTERVAL": "later", "HEDGEROW_QUEUE_SIZE": "0", "HEDGEROW_PRIVACY_MODE": "maybe",
		"HEDGEROW_SERVERLESS": "2", "HEDGEROW_LOG_LEVEL": "loud", "HEDGEROW_DISABLED": "perhaps",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			if _, err := hedgerow.New(hedgerow.Config{APIKey: simposthog.Token}); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%v, want an error that names the variable", err)
			}
		})
	}
	t.Run("used", func(t *testing.T) {
		ph := simposthog.Run(t, simposthog.Options{})
		for name, value := range map[string]string{
			"POSTHOG_API_KEY": simposthog.Token, "POSTHOG_HOST": ph.URL() + "/", "HEDGEROW_FLUSH_AT": "2", "HEDGEROW_FLUSH_INTERVAL": "1h",
			"HEDGEROW_DISTINCT_ID": "somebody", "HEDGEROW_ENVIRONMENT": "staging", "HEDGEROW_LOG_LEVEL": "error",
		} {
			t.Setenv(name, value)
		}
		c, err := hedgerow.New(hedgerow.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(t.Context())
		c.Capture(t.Context(), "a", nil)
		c.Capture(t.Context(), "b", nil)
		deadline := time.Now().Add(time.Minute)
		for ph.Count() < 2 && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		got := ph.Events()
		if len(got) != 2 || got[0].DistinctID != "somebody" || got[0].Text("environment") != "staging" {
			t.Errorf("%v", got)
		}
	})
	t.Run("field wins", func(t *testing.T) {
		t.Setenv("HEDGEROW_API_KEY", "phx_bad")
		t.Setenv("HEDGEROW_FLUSH_AT", "bad")
		c, err := hedgerow.New(hedgerow.Config{APIKey: simposthog.Token, FlushAt: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(t.Context())
	})
	t.Run("disabled", func(t *testing.T) {
		t.Setenv("HEDGEROW_DISABLED", "1")
		if c, err := hedgerow.New(hedgerow.Config{}); err != nil || c.Enabled() {
			t.Errorf("%v", err)
		}
	})
}

// A hedgerow token is for a hedgerow server: there is no default host, and
// PostHog's hosts are rejected.
func TestHomeTokenNeedsAHost(t *testing.T) {
	const token = homeToken
	for _, name := range []string{"HEDGEROW_HOST", "POSTHOG_HOST", "HEDGEROW_API_KEY", "POSTHOG_API_KEY"} {
		t.Setenv(name, "")
	}
	for _, host := range []string{"", " ", "https://us.i.posthog.com", "https://eu.posthog.com", "https://app.posthog.com/"} {
		client, err := hedgerow.New(hedgerow.Config{APIKey: token, Host: host})
		var e *event.Error
		if client != nil || !errors.As(err, &e) || e.Code != event.CodeInvalid || !strings.Contains(e.Hint, "HEDGEROW_HOST") {
			t.Errorf("host %q: %v", host, err)
		}
	}
	t.Setenv("HEDGEROW_API_KEY", token)
	if _, err := hedgerow.New(hedgerow.Config{}); err == nil {
		t.Error("from the environment, no host: no error")
	}
	t.Setenv("HEDGEROW_HOST", "http://127.0.0.1:4100")
	client, err := hedgerow.New(hedgerow.Config{})
	if err != nil {
		t.Fatal(err)
	}
	_ = client.Close(t.Context())
}
