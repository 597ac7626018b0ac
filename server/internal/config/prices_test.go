package config

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/internal/price"
)

// TestPriceFeed parses the settings of the refresh: on by default, off, an address, an
// interval.
func TestPriceFeed(t *testing.T) {
	for _, tt := range []struct{ env, file, url, err string }{
		{"", "", price.GenAIFeed, ""},
		{"off", "", "", ""},
		{"", "prices_refresh: off", "", ""},
		{"on", "prices_refresh: off", price.GenAIFeed, ""},
		{"", "prices_refresh: https://mirror.example/data.json\nprices_refresh_interval: 6h", "https://mirror.example/data.json", ""},
		{"ftp://mirror.example/data.json", "", "", "not on, off or a URL"},
		{"", "prices_refresh_interval: 1m", "", "too short"},
	} {
		t.Setenv("HEDGEROW_PRICES_REFRESH", tt.env)
		if tt.env == "" {
			os.Unsetenv("HEDGEROW_PRICES_REFRESH")
		}
		path := filepath.Join(t.TempDir(), "hedgerow.yaml")
		if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
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
		switch {
		case tt.err != "":
			if loaded == nil || !strings.Contains(loaded.Error(), tt.err) {
				t.Errorf("%q, %q: %v, want %s", tt.env, tt.file, loaded, tt.err)
			}
		case loaded != nil || c.PriceFeed() != tt.url:
			t.Errorf("%q, %q: %q, %v, want %q", tt.env, tt.file, c.PriceFeed(), loaded, tt.url)
		case strings.Contains(tt.file, "interval") && c.PricesRefreshInterval != 6*time.Hour:
			t.Errorf("the interval is %s", c.PricesRefreshInterval)
		}
	}
}

// TestRefreshedPrices: what was fetched is in use only while it is newer than what is
// built in, and does not keep a server from starting where it is damaged.
func TestRefreshedPrices(t *testing.T) {
	c := &Config{Data: t.TempDir()}
	builtin, _ := price.Default().Dates()
	rows, err := price.ParseGenAI(strings.NewReader(`[{"id":"openai","models":[{"id":"gpt-4.1","match":{"equals":"gpt-4.1"},"prices":{"input_mtok":3,"output_mtok":9}}]}]`), builtin)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		days int
		want string
	}{{-1, "2"}, {0, "2"}, {1, "3"}} {
		if err := price.Save(c.RefreshedPrices(), price.Overlay{Date: builtin.AddDate(0, 0, tt.days), Rows: rows}); err != nil {
			t.Fatal(err)
		}
		table, err := c.LoadPrices()
		if err != nil {
			t.Fatal(err)
		}
		if r, _ := table.Match("openai", "gpt-4.1"); price.PerMillion(r.Input) != tt.want {
			t.Errorf("%d days after the built-in prices: gpt-4.1 costs %s, want %s", tt.days, price.PerMillion(r.Input), tt.want)
		}
		if r, ok := table.Match("openai", "gpt-4o"); !ok || price.PerMillion(r.Input) != "2.5" {
			t.Errorf("%d days: a model that was not fetched has lost its price", tt.days)
		}
	}
	if err := os.WriteFile(c.RefreshedPrices(), []byte(`{"version":1,"rows":[{`), 0o600); err != nil {
		t.Fatal(err)
	}
	if table, err := c.LoadPrices(); err != nil {
		t.Error(err)
	} else if r, _ := table.Match("openai", "gpt-4.1"); price.PerMillion(r.Input) != "2" {
		t.Errorf("with a damaged file gpt-4.1 costs %s", price.PerMillion(r.Input))
	}
}
