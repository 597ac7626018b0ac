package outbound

import (
	"encoding/json"

	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// DistinctID is the id by which a connection's PostHog knows a user of a project: the
// one that Shape gives the user's events. A project of which nothing is known has
// no key to hash with: the id is then left as it is.
func DistinctID(c project.Connection, p project.Project, id string) string {
	if p.ID != "" && (c.HashDistinctIDs || p.Settings.HashDistinctIDs) {
		return privacy.HashID([]byte(p.HashKey.Reveal()), id)
	}
	return id
}

// FlagQuestion is what of a question for feature flags leaves for a connection's
// PostHog.
func FlagQuestion(c project.Connection, asked map[string]json.RawMessage) map[string]json.RawMessage {
	if !c.PrivacyMode {
		return asked
	}
	return privacy.FlagQuestion(asked, c.SendProperties)
}

// FlagQuery is what leaves of the query of such a question.
func FlagQuery(c project.Connection, query map[string][]string) map[string][]string {
	if !c.PrivacyMode {
		return query
	}
	return privacy.FlagQuery(query)
}
