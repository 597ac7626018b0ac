package app

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/config"
)

// TestBanner checks that the banner states that calls need a key, and which, if
// other machines can reach the gateway, as they can a container's published port.
func TestBanner(t *testing.T) {
	for listen, asks := range map[string]bool{"127.0.0.1:4100": false, "0.0.0.0:4100": true} {
		c := &config.Config{Data: filepath.Join(t.TempDir(), "data"), Listen: listen, JournalMaxBytes: "1GiB", JournalSync: "interval", LogLevel: "error", LogFormat: "text", BufferBudget: "64MiB"}
		for _, first := range []bool{true, false} {
			a, err := Offline(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			a.Banner(&out)
			a.Close(context.Background())
			line := ""
			for l := range strings.Lines(out.String()) {
				if strings.Contains(l, "calls need") {
					line = l
				}
			}
			if (line != "") != asks || asks && (!strings.Contains(line, "X-Hedgerow-Key") || strings.Contains(line, "this API key") != first) {
				t.Errorf("%s, first start %t: %q in\n%s", listen, first, line, out.String())
			}
		}
	}
}
