package sdktest_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
)

// sandbox simulates a hedgerow server and the providers in the examples.
type sandbox struct {
	ph  *simposthog.Server
	sim *simprovider.Server

	config    hedgerow.Config // for New: key and host
	OpenAI    string          // base URL
	Anthropic string
}

func newSandbox() *sandbox {
	s := &sandbox{ph: newReceiver(), sim: simprovider.New(simprovider.Options{Seed: 1})}
	if err := s.sim.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	s.config = hedgerow.Config{APIKey: homeToken, Host: "http://127.0.0.1:4100", HTTPClient: &http.Client{Transport: s.ph.Transport()}}
	s.OpenAI, s.Anthropic = s.sim.OpenAIURL()+"/v1", s.sim.AnthropicURL()
	return s
}

func (s *sandbox) close() { _ = s.sim.Close() }

// print shows what has arrived: each event's name, user and the given properties.
func (s *sandbox) print(properties ...string) {
	events := s.ph.Events()
	slices.SortStableFunc(events, func(a, b simposthog.Event) int { return strings.Compare(a.Route+a.Name, b.Route+b.Name) })
	for _, e := range events {
		line := e.Name
		for _, p := range properties {
			if e.Has(p) {
				v := e.Text(p)
				if v == "" {
					v = string(e.Properties[p])
				}
				line += fmt.Sprintf(" %s=%s", strings.TrimPrefix(p, "$ai_"), v)
			}
		}
		fmt.Println(line)
	}
}
