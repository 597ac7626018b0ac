package main

import (
	"errors"
	"io/fs"

	"github.com/hedgerow/hedgerow/internal/price"
)

// loadPrices lays the synced prices and the configuration's own over the
// built-in table.
func (c *config) loadPrices() (*price.Table, error) {
	overlay, err := price.Load(c.path("prices.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c.ownPrices(price.Default())
	case err != nil:
		return nil, err
	}
	return c.ownPrices(price.Default().WithSynced(overlay))
}

// ownPrices lays the configuration's prices over a table.
func (c *config) ownPrices(t *price.Table) (*price.Table, error) {
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
