// Package sdkadapter puts the Go SDK behind the HTTP interface that PostHog's SDK
// test harness drives (PostHog/posthog-sdk-test-harness, ADAPTER_GUIDE.md), so
// that the harness, and this package's own tests, can watch what the SDK does on
// the wire. The program is in cmd:
//
//	go run ./sdktest/adapter/cmd -listen 127.0.0.1:8080
//
// Read adapter.go: [New] makes the handler. Each test_id of the harness has its
// own client, whose requests have it in X-Test-Id.
//
// The tests are the harness's behaviours of capture protocol v0. The SDK
// speaks no v1, and says so in /health. In one thing it differs from PostHog's
// SDKs on purpose: events whose names begin with $ai_ go to the AI route however
// they are captured, because the other one refuses whole batches over one of them
// that is large.
package sdkadapter
