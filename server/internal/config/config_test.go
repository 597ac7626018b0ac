package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/event"
)

// fakeFlags is a parsed command line: its values take precedence over the file.
type fakeFlags struct{ given, got map[string]string }

func (f fakeFlags) IsSet(name string) bool { return f.given[name] != "" }
func (f fakeFlags) String(string) string   { return "" }
func (f fakeFlags) Set(name, value string) error {
	if value == "refuse" {
		return errors.New("refused")
	}
	f.got[name] = value
	return nil
}

// TestConfigFiles loads every file of testdata/config: NAME.good.yaml must be
// accepted, NAME.bad.yaml rejected with every line of NAME.want in the
// message.
func TestConfigFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c := &Config{Listen: "127.0.0.1:4100", LogLevel: "info", LogFormat: "text", JournalSync: "interval", JournalMaxBytes: "1GiB", BufferBudget: "1GiB", CaptureQueue: 1}
			err = c.apply(filepath.Base(file), b, fakeFlags{got: map[string]string{}})
			if err == nil {
				err = c.validate()
			}
			if strings.HasSuffix(file, ".good.yaml") {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var exit *ExitError
			if !errors.As(err, &exit) || exit.Code != ExitConfig {
				t.Fatalf("got %v, want a configuration error", err)
			}
			var e *event.Error
			if !errors.As(err, &e) || e.Hint == "" {
				t.Errorf("no hint in %v", err)
			}
			want, err2 := os.ReadFile(strings.TrimSuffix(file, ".yaml") + ".want")
			if err2 != nil {
				t.Fatal(err2)
			}
			for line := range strings.Lines(string(want)) {
				if line = strings.TrimSpace(line); !strings.Contains(err.Error(), line) {
					t.Errorf("error %q lacks %q", err, line)
				}
			}
		})
	}
}

func TestFlagWinsOverFile(t *testing.T) {
	f := fakeFlags{given: map[string]string{"listen": "x"}, got: map[string]string{}}
	if err := new(Config).apply("f", []byte("listen: 1.2.3.4:1\ndata: /srv\n"), f); err != nil {
		t.Fatal(err)
	}
	if f.got["listen"] != "" || f.got["data"] != "/srv" {
		t.Errorf("set %v", f.got)
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{"4GiB": 4 << 30, "512MB": 512 << 20, "100k": 100 << 10, "7": 7, "1.5m": 3 << 19, "0": 0} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "GiB", "-1", "x", "1e30TB"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", in, got)
		}
	}
}

func TestIsLoopback(t *testing.T) {
	for in, want := range map[string]bool{"127.0.0.1:4100": true, "[::1]:1": true, "localhost:1": true, "0.0.0.0:4100": false, ":4100": false, "10.0.0.1:1": false} {
		if IsLoopback(in) != want {
			t.Errorf("isLoopback(%q) = %v", in, !want)
		}
	}
}

func TestTrustedProxies(t *testing.T) {
	c := &Config{TrustedProxies: "10.1.2.3/8, 172.18.0.2,,fd00::/8"}
	got, err := c.Proxies()
	if err != nil || fmt.Sprint(got) != "[10.0.0.0/8 172.18.0.2/32 fd00::/8]" {
		t.Errorf("%v, %v", got, err)
	}
	c = &Config{Listen: "127.0.0.1:4100", TrustedProxies: "10.0.0.0/8, the-proxy"}
	if err := c.validate(); err == nil || !strings.Contains(err.Error(), "trusted_proxies") {
		t.Errorf("got %v, want an error that names the setting", err)
	}
}

func TestStoreMemory(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "auto": 0, "512MiB": 512 << 20, "40MiB": 40 << 20, "8MiB": -1, "0": -1, "much": -1} {
		got, err := (&Config{StoreMemory: text}).StoreMemoryBytes()
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

// TestConfigurationPage checks that docs/configuration.md has each key once,
// with the default in the code.
func TestConfigurationPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile("`([^`]+)`")
	table := false
	documented := map[string]string{} // key → default, as written
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, " | ")
		switch {
		case strings.HasPrefix(line, "| key | default |"):
			table = true
		case !strings.HasPrefix(line, "|"):
			table = false
		case table && len(cells) >= 3:
			keys, defaults := quoted.FindAllStringSubmatch(cells[0], -1), quoted.FindAllStringSubmatch(cells[1], -1)
			for i, k := range keys {
				if _, twice := documented[k[1]]; twice {
					t.Errorf("%s is there twice", k[1])
				}
				if documented[k[1]] = cells[1]; len(defaults) == len(keys) {
					documented[k[1]] = defaults[i][1]
				}
			}
		}
	}
	said := map[string]string{"roles": "all four", "public_url": "http://", "require_key": "as set on"} // in words
	for _, f := range new(Config).Flags() {
		key := strings.ReplaceAll(f.Names()[0], "-", "_")
		if key == "config" {
			continue // the file itself
		}
		got, ok := documented[key]
		delete(documented, key)
		want := ""
		switch f := f.(type) {
		case *cli.StringFlag:
			want = f.Value
		case *cli.BoolFlag:
			want = strconv.FormatBool(f.Value)
		case *cli.IntFlag:
			want = strconv.Itoa(f.Value)
		case *cli.DurationFlag:
			if want = f.Value.String(); f.Value == 0 {
				want = "0"
			}
		default:
			t.Fatalf("%s is a %T", key, f)
		}
		switch words, inWords := said[key]; {
		case !ok:
			t.Errorf("docs/configuration.md lacks %s", key)
		case inWords && !strings.Contains(got, words), !inWords && want != "" && got != want, !inWords && want == "" && got != "–" && !strings.HasPrefix(key, "upstream_"):
			t.Errorf("docs/configuration.md says that %s is %q, and it is %q", key, got, want)
		}
	}
	for key := range documented {
		if !slices.Contains(fileOnly, key) {
			t.Errorf("docs/configuration.md names %s, which is no key", key)
		}
	}
	for _, key := range fileOnly {
		if !strings.Contains(string(page), key+":") {
			t.Errorf("docs/configuration.md shows no %s", key)
		}
	}
}

// TestRefusedRoles has what would split events or leave them unread, and what
// would not.
func TestRefusedRoles(t *testing.T) {
	for _, c := range []struct {
		nats, roles string
		want        string // in the message; "" where it is accepted
	}{
		{"", "", ""},
		{"", allRoles, ""},
		{"", "sinks,web", ""},
		{"", "gateway, ingest, sinks", ""},
		{"", "gateway", "roles: without sinks nothing is stored"},
		{"", "web", "roles: without sinks nothing is stored"},
		{"nats://n:4222", "", ""},
		{"nats://n:4222", "web,sinks,ingest,gateway", ""},
		{"nats://n:4222", "sinks", "roles: with nats_url a process has to run all of"},
		{"nats://n:4222", "gateway,ingest", "roles: with nats_url a process has to run all of"},
	} {
		err := (&Config{NATSURL: c.nats, Roles: c.roles}).refuseSplit()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("nats_url %q, roles %q: %v, want %q", c.nats, c.roles, err, c.want)
		}
		var exit *ExitError
		if err != nil && (!errors.As(err, &exit) || exit.Code != ExitConfig || event.AsError(err).Hint == "") {
			t.Errorf("nats_url %q, roles %q: %v is no configuration error with a hint", c.nats, c.roles, err)
		}
	}
}

func TestMinFreeDisk(t *testing.T) {
	for text, good := range map[string]bool{"": true, "auto": true, "2GiB": true, "5%": true, "0": true, "a lot": false, "120%": false, "-1": false} {
		c := &Config{Listen: "127.0.0.1:4100", LogLevel: "info", LogFormat: "text", JournalSync: "interval", JournalMaxBytes: "1GiB", BufferBudget: "1GiB", CaptureQueue: 1, MinFreeDisk: text}
		if err := c.validate(); good && err != nil || !good && (err == nil || !strings.Contains(err.Error(), "min_free_disk")) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestJoinHold parses the setting: unset is the default, 0 is no hold.
func TestJoinHold(t *testing.T) {
	t.Setenv("HEDGEROW_JOIN_HOLD", "")
	for file, want := range map[string]string{"": "20s", "join_hold: 0": "0s", "join_hold: 0s": "0s", "join_hold: 45s": "45s", "join_hold: -1s": "join_hold: -1s", "join_hold: 1h": "join_hold: 1h", "join_hold: soon": "join_hold"} {
		path := filepath.Join(t.TempDir(), "hedgerow.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		c := new(Config)
		var loaded error
		cmd := &cli.Command{Flags: c.Flags(), Action: func(_ context.Context, cmd *cli.Command) error {
			loaded = c.Load(cmd)
			return nil
		}}
		if err := cmd.Run(t.Context(), []string{"hedgerow", "--config", path}); err != nil {
			t.Fatal(err)
		}
		if loaded == nil && c.JoinHold.String() != want || loaded != nil && !strings.Contains(loaded.Error(), want) {
			t.Errorf("%q: %v, %v, want %s", file, c.JoinHold, loaded, want)
		}
	}
}
