package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// now is the time of all tests, unless they need the real one.
var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const (
	posthogKey  = "phc_posthog_0123456789abcdefghijklmnop" // of the connection of project default
	disabledKey = "phc_disabled_0123456789abcdefghijklmno"
	personalKey = "phx_personal_0123456789abcdefghijklmnop"
)

// settings are those of a hedgerow with two projects: default has a connection
// to PostHog, bare has none.
var settings struct {
	snap           *project.Snapshot
	def, bare      project.Project
	member, viewer string // API keys of default, by role
	sender         string // one that may only ingest
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if err := makeSettings(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

func makeSettings() (err error) {
	dir, err := os.MkdirTemp("", "hedgerow-ingest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	j, err := journal.Open(ctx, journal.Config{Dir: dir})
	if err != nil {
		return err
	}
	defer j.Close(ctx)
	kv, err := j.KeyValue(ctx, "settings", 1)
	if err != nil {
		return err
	}
	r, err := project.Open(ctx, kv, project.Options{SecretKey: bytes.Repeat([]byte{7}, project.KeySize), AllowInsecureHosts: true})
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err = r.Bootstrap(ctx); err != nil {
		return err
	}
	if settings.bare, err = r.CreateProject(ctx, "bare"); err != nil {
		return err
	}
	for _, c := range []struct {
		name, key, personal string
		enabled             bool
	}{{"b", posthogKey, personalKey, true}, {"a", disabledKey, "", false}} {
		conn := project.NewConnection(project.DefaultID, c.name)
		conn.Host, conn.ProjectKey, conn.PersonalKey, conn.Enabled = "http://127.0.0.1:1", project.NewSecret(c.key), project.NewSecret(c.personal), c.enabled
		if _, err = r.CreateConnection(ctx, conn); err != nil {
			return err
		}
	}
	if settings.member, _, err = r.CreateAPIKey(ctx, project.DefaultID, "m", project.RoleMember); err != nil {
		return err
	}
	if settings.viewer, _, err = r.CreateAPIKey(ctx, project.DefaultID, "v", project.RoleViewer); err != nil {
		return err
	}
	if settings.sender, _, err = r.CreateScopedKey(ctx, project.DefaultID, "s", project.Scopes{project.ScopeIngest}); err != nil {
		return err
	}
	settings.snap = r.Snapshot()
	settings.def, _ = settings.snap.Project(project.DefaultID)
	return nil
}

// kept is an Appender that encodes events before Append returns, as the journal
// does.
type kept struct {
	mu     sync.Mutex
	frames [][]byte
	err    func(*event.Event) error // nil: everything is stored
	calls  int
}

func (k *kept) Append(_ context.Context, events ...*event.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	for _, e := range events {
		if k.err != nil {
			if err := k.err(e); err != nil {
				return err
			}
		}
		if err := e.Validate(); err != nil {
			return err
		}
		b, err := e.AppendFrame(nil)
		if err != nil {
			return err
		}
		k.frames = append(k.frames, b)
	}
	return nil
}

func (k *kept) events(t testing.TB) []*event.Event {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]*event.Event, len(k.frames))
	for i, b := range k.frames {
		e, err := event.DecodeFrame(b)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = e
	}
	return out
}

func (k *kept) reset() { k.mu.Lock(); k.frames, k.calls = nil, 0; k.mu.Unlock() }

func newHandler(t testing.TB, c ingest.Config) (*ingest.Handler, *kept) {
	t.Helper()
	k := &kept{}
	if c.Append == nil {
		c.Append = k
	}
	c.Projects = func() *project.Snapshot { return settings.snap }
	if c.Now == nil {
		c.Now = func() time.Time { return now }
	}
	h, err := ingest.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h, k
}

// call sends a request. header are pairs.
func call(h http.Handler, method, target string, body []byte, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://hedgerow.test"+target, bytes.NewReader(body))
	r.RemoteAddr = "127.0.0.1:5555"
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// wire is an event as it would be sent, for comparison.
type wire struct {
	Name, DistinctID string
	Timestamp        time.Time
	Properties       map[string]any
}

func wireOf(t testing.TB, e *event.Event) wire {
	t.Helper()
	b, err := e.MarshalPostHog(event.Wire{})
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Event      string         `json:"event"`
		DistinctID string         `json:"distinct_id"`
		Timestamp  time.Time      `json:"timestamp"`
		Properties map[string]any `json:"properties"`
	}
	decode(t, b, &v)
	return wire{v.Event, v.DistinctID, v.Timestamp, v.Properties}
}

func wireOfPostHog(t testing.TB, e simposthog.Event) wire {
	t.Helper()
	b, err := json.Marshal(e.Properties)
	if err != nil {
		t.Fatal(err)
	}
	w := wire{Name: e.Name, DistinctID: e.DistinctID, Timestamp: e.Timestamp.Truncate(time.Microsecond)}
	decode(t, b, &w.Properties)
	return w
}

// decode decodes JSON and keeps numbers as they are written.
func decode(t testing.TB, b []byte, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v in %.300s", err, b)
	}
}

// differ describes the differences of two property maps.
func differ(got, want map[string]any) string {
	var s strings.Builder
	keys := make(map[string]bool)
	for k := range got {
		keys[k] = true
	}
	for k := range want {
		keys[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		g, _ := json.Marshal(got[k])
		w, _ := json.Marshal(want[k])
		_, inGot := got[k]
		_, inWant := want[k]
		if inGot != inWant || !bytes.Equal(g, w) {
			fmt.Fprintf(&s, "  %s: got %s (there: %v), want %s (there: %v)\n", k, g, inGot, w, inWant)
		}
	}
	return s.String()
}

// relayTo sends requests to a simulated PostHog, whatever host they are for.
type relayTo struct{ ph *simposthog.Server }

func (r relayTo) Do(req *http.Request) (*http.Response, error) {
	return r.ph.Transport().RoundTrip(req)
}
