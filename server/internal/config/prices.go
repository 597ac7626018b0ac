package config

import (
	"errors"
	"io/fs"

	"github.com/hedgerow/hedgerow/internal/price"
)

// LoadPrices lays the synced prices and the configuration's own over the
// built-in table.
func (c *Config) LoadPrices() (*price.Table, error) {
	overlay, err := price.Load(c.Path("prices.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c.OwnPrices(price.Default())
	case err != nil:
		return nil, err
	}
	return c.OwnPrices(price.Default().WithSynced(overlay))
}

// OwnPrices lays the configuration's prices over a table.
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
