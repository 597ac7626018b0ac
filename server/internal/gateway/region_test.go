package gateway

import (
	"encoding/base64"
	"testing"
)

// A location selects Google's host for it, and cannot select another domain.
func TestVertexAt(t *testing.T) {
	for path, want := range map[string]string{
		"/v1/projects/p/locations/us-east5/publishers/anthropic/models/m:rawPredict": "us-east5-aiplatform.googleapis.com",
		"/v1/projects/p/locations/global/publishers/google/models/m:generateContent": "aiplatform.googleapis.com",
		"/v1/projects/p/locations/eu/endpoints/openapi/chat/completions":             "aiplatform.eu.rep.googleapis.com",
		"/v1beta1/publishers/google/models/m:generateContent":                        "aiplatform.googleapis.com",
		"/v1/projects/p/locations/evil.example#/x":                                   "aiplatform.googleapis.com",
		"/v1/projects/p/locations/":                                                  "aiplatform.googleapis.com",
	} {
		up, err := newUpstream("vertex", DefaultUpstreams()["vertex"])
		if err != nil {
			t.Fatal(err)
		}
		if got := up.to("", path, ""); got.host != want || got.path != path {
			t.Errorf("%s goes to %s%s, want %s", path, got.host, got.path, want)
		}
	}
}

// A region comes from the model's ARN, the signature or a short-term key, and must be an AWS
// region.
func TestBedrockRegion(t *testing.T) {
	const arn, scope = "/model/arn:aws:bedrock:eu-west-1:123:inference-profile/eu.anthropic.claude/converse", "AWS4-HMAC-SHA256 Credential=hr_x/20261130/ap-south-1/bedrock/aws4_request, Signature=a"
	short := func(url string) string {
		return "Bearer " + shortTermKey + base64.StdEncoding.EncodeToString([]byte(url))
	}
	for _, tt := range []struct{ path, authorization, region string }{
		{"/model/us.amazon.nova-pro-v1:0/converse", "Bearer k", "us-east-1"},
		{"/model/us.amazon.nova-pro-v1:0/converse", scope, "ap-south-1"},
		{"/model/us.amazon.nova-pro-v1:0/converse", short("bedrock.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20261130%2Feu-central-1%2Fbedrock%2Faws4_request&X-Amz-Date=20261130T000000Z&Version=1"), "eu-central-1"},
		{"/model/us.amazon.nova-pro-v1:0/converse", short("bedrock.amazonaws.com/?X-Amz-Credential=AKIA%2F20261130%2Fevil.example%23%2Fbedrock"), "us-east-1"},
		{"/model/us.amazon.nova-pro-v1:0/converse", "Bearer " + shortTermKey + "***", "us-east-1"},
		{arn, short("bedrock.amazonaws.com/?X-Amz-Credential=AKIA%2F20261130%2Feu-central-1%2Fbedrock"), "eu-west-1"},
		{arn, "Bearer k", "eu-west-1"},
		{"/model/eu.anthropic.claude-sonnet-4-5-20250929-v1:0/converse", "Bearer ABSKx", "eu-west-1"},
		{"/model/eu.anthropic.claude-sonnet-4-5-20250929-v1:0/converse", scope, "ap-south-1"},
		{"/model/jp.anthropic.claude-sonnet-4-5-20250929-v1:0/invoke", "Bearer ABSKx", "ap-northeast-1"},
		{"/model/global.anthropic.claude-sonnet-4-5-20250929-v1:0/invoke", "Bearer ABSKx", "us-east-1"},
		{"/model/anthropic.claude-sonnet-4-5-20250929-v1:0/invoke", "Bearer ABSKx", "us-east-1"},
		{arn, scope, "eu-west-1"},
		{"/model/arn:aws:bedrock:evil.example#:1:x/converse", "", "us-east-1"},
	} {
		if got := bedrockRegion(tt.path, tt.authorization); got != tt.region {
			t.Errorf("%s %s: %s, want %s", tt.path, tt.authorization, got, tt.region)
		}
	}
}
