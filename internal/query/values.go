package query

import "context"

// Value is something that a filter menu can offer.
type Value struct {
	Value  string `json:"value"`
	Events int64  `json:"events"`
}

// FilterValues lists the values that a field had in the last 30 days, the most
// frequent first, at most 100. Fields are named as the JSON keys of [Filter]'s
// use in the API: event, provider, model, operation, surface, user, prompt_name,
// prompt_version, status, error_type, task_type, environment, tag.
func (r *Reader) FilterValues(ctx context.Context, project, field string) ([]Value, error) {
	return nil, nil
}
