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

// Needs returns what each route asks of a key, by "METHOD /path".
func Needs() map[string][]string {
	out := make(map[string][]string)
	for _, r := range (&API{}).routes() {
		for _, s := range r.need {
			out[strings.TrimSpace(r.pattern)] = append(out[strings.TrimSpace(r.pattern)], string(s))
		}
	}
	return out
}
