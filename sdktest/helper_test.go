package sdktest_test

import (
	"os"
	"strings"
	"testing"

	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

const (
	host   = "https://posthog.test"
	prompt = "the wren nests in the blackthorn"

	// homeToken is a project token of hedgerow: with it the receiver is a server of
	// hedgerow, whatever the test puts in its place.
	homeToken = "phc_hedgerow_0123456789abcdefghijklmn"
)

// TestMain takes the machine's own settings away.
func TestMain(m *testing.M) {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "HEDGEROW_") || strings.HasPrefix(name, "POSTHOG_") {
			os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}

// newReceiver simulates PostHog, and with homeToken a hedgerow server.
func newReceiver() *simposthog.Server {
	return simposthog.New(simposthog.Options{Projects: []simposthog.Project{{Token: simposthog.Token}, {Token: homeToken}}})
}
