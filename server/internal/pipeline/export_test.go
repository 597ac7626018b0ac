package pipeline

import (
	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

// SetAtHome puts f in the place of the privacy stage.
func (p *Pipeline) SetAtHome(f func(*event.Event, privacy.StoragePolicy)) { p.atHome = f }
