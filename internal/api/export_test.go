package api

import "strings"

// Routes lists every route as "METHOD /path".
func Routes() []string {
	out := []string{"GET /api/v1/openapi.json"}
	for _, r := range (&API{}).routes() {
		out = append(out, strings.TrimSpace(r.pattern))
	}
	return out
}
