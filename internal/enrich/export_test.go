package enrich

import (
	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

// SetAtHome puts f in the place of the privacy stage.
func (n *Enricher) SetAtHome(f func(*event.Event, privacy.HomePolicy)) { n.atHome = f }
