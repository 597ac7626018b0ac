package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"time"

	"github.com/hedgerow/hedgerow/internal/price"
)

// RefreshedPrices is the file with the prices that the server has refreshed.
func (c *Config) RefreshedPrices() string { return c.Path("prices.refreshed.json") }

// PriceFeed is the address that prices are refreshed from; "" where that is off.
func (c *Config) PriceFeed() string {
	switch c.PricesRefresh {
	case "off", "false", "0", "": // the flag's default is on
		return ""
	case "on", "true", "1":
		return price.GenAIFeed
	}
	return c.PricesRefresh
}

func (c *Config) validatePriceFeed() error {
	if feed := c.PriceFeed(); feed != "" {
		if u, err := url.Parse(feed); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return Invalid(fmt.Sprintf("prices_refresh: %q is not on, off or a URL", price.SourceName(feed)), "omit it for on, or use a URL such as "+price.GenAIFeed, err)
		}
		if c.PricesRefreshInterval != 0 && c.PricesRefreshInterval < time.Hour {
			return Invalid(fmt.Sprintf("prices_refresh_interval: %s is too short", c.PricesRefreshInterval), "use an hour or more, such as 24h", nil)
		}
	}
	return nil
}

// LoadPrices applies the refreshed prices, the synced ones and the
// configuration's own to the built-in table. Refreshed ones that cannot be read
// are left out: they are fetched again.
func (c *Config) LoadPrices() (*price.Table, error) {
	t := price.Default()
	if refreshed, err := price.Load(c.RefreshedPrices()); err == nil {
		if builtin, _ := t.Dates(); refreshed.Date.After(builtin) {
			t = t.WithRefreshed(refreshed)
		}
	}
	overlay, err := price.Load(c.Path("prices.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c.OwnPrices(t)
	case err != nil:
		return nil, err
	}
	return c.OwnPrices(t.WithSynced(overlay))
}

// OwnPrices applies the configuration's prices to a table.
func (c *Config) OwnPrices(t *price.Table) (*price.Table, error) {
	if c.Prices.Kind != 0 {
		rows, err := price.RowsFromYAML(&c.Prices)
		if err != nil {
			return nil, err
		}
		t = t.With(rows...)
	}
	if len(c.AzureDeployments) > 0 {
		t = t.WithAliases("azure", c.AzureDeployments)
	}
	return t, nil
}
