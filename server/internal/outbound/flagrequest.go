package outbound

import (
	"encoding/json"

	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// DistinctID returns a user's id in a connection's PostHog: the same as Shape
// sets on the user's events. An unknown project has no hash key: its ids are not
// changed.
func DistinctID(c project.Connection, p project.Project, id string) string {
	if p.ID != "" && (c.HashDistinctIDs || p.Settings.HashDistinctIDs) {
		return privacy.HashID([]byte(p.HashKey.Reveal()), id)
	}
	return id
}

// FlagRequest is what of a question for feature flags leaves for a connection's
// PostHog.
func FlagRequest(c project.Connection, asked map[string]json.RawMessage) map[string]json.RawMessage {
	if !c.PrivacyMode {
		return asked
	}
	return privacy.FlagRequest(asked, c.SendProperties)
}

// FlagQuery returns the query parameters of such a request to send.
func FlagQuery(c project.Connection, query map[string][]string) map[string][]string {
	if !c.PrivacyMode {
		return query
	}
	return privacy.FlagQuery(query)
}
