package join

import (
	"encoding/json"
	"testing"

	"github.com/hedgerow/hedgerow/event"
)

// TestPersonless merges the capture of a wrapper that was given no user, and of one that
// was: only a user replaces the gateway's.
func TestPersonless(t *testing.T) {
	for _, tt := range []struct {
		distinct, profile, call, want string
	}{
		{"trace-1", "false", "user_12", "user_12"},
		{"trace-1", "false", "", ""},
		{"ada", "", "user_12", "ada"},
		{"ada", "false", "user_12", "ada"}, // a user without a profile
		{"trace-1", "", "user_12", "trace-1"},
	} {
		wrapper := &event.Event{DistinctID: tt.distinct, TraceID: "trace-1", Properties: map[string]json.RawMessage{"plan": json.RawMessage(`"pro"`)}}
		if tt.profile != "" {
			wrapper.Properties[personProfile] = json.RawMessage(tt.profile)
		}
		call := &event.Event{DistinctID: tt.call}
		Apply(mergeFields(wrapper), call)
		_, personless := call.Properties[personProfile]
		if call.DistinctID != tt.want || personless != (tt.profile != "" && tt.distinct == "ada") || call.Properties["plan"] == nil {
			t.Errorf("%+v: of %q, %v", tt, call.DistinctID, call.Properties)
		}
	}
}
