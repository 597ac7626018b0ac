package gateway

import "testing"

// A location leads to Google's host for it, and nowhere else.
func TestVertexAt(t *testing.T) {
	for path, want := range map[string]string{
		"/v1/projects/p/locations/us-east5/publishers/anthropic/models/m:rawPredict": "us-east5-aiplatform.googleapis.com",
		"/v1/projects/p/locations/global/publishers/google/models/m:generateContent": "aiplatform.googleapis.com",
		"/v1/projects/p/locations/eu/endpoints/openapi/chat/completions":             "aiplatform.eu.rep.googleapis.com",
		"/v1beta1/publishers/google/models/m:generateContent":                        "aiplatform.googleapis.com",
		"/v1/projects/p/locations/evil.example#/x":                                   "aiplatform.googleapis.com",
		"/v1/projects/p/locations/":                                                  "aiplatform.googleapis.com",
	} {
		up, err := newUpstream("vertex", Known()["vertex"])
		if err != nil {
			t.Fatal(err)
		}
		if got := up.to("", path, ""); got.host != want || got.path != path {
			t.Errorf("%s goes to %s%s, want %s", path, got.host, got.path, want)
		}
	}
}
