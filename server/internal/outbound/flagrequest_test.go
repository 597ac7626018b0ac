package outbound

import (
	"encoding/json"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

// A connection's privacy mode determines the parameters of a flag request.
func TestFlagQuestionByConnection(t *testing.T) {
	asked := map[string]json.RawMessage{"distinct_id": []byte(`"d"`), "messages": []byte(`["what he said"]`)}
	query := map[string][]string{"v": {"2"}, "x": {"what he said"}}
	for _, private := range []bool{true, false} {
		want := 2
		if private {
			want = 1
		}
		c := project.Connection{PrivacyMode: private}
		if got, q := FlagRequest(c, asked), FlagQuery(c, query); len(got) != want || len(q) != want || got["distinct_id"] == nil || q["v"] == nil {
			t.Errorf("privacy %v: %s, %v", private, got, q)
		}
	}
	if len(asked) != 2 || len(query) != 2 {
		t.Error("the question itself was changed")
	}
}
