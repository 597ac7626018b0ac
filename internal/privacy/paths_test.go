package privacy_test

import (
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

// Of the path of a call whose body is not read, only the providers' own
// segments are sent.
func TestUnknownPaths(t *testing.T) {
	const base = "https://api.openai.com"
	for _, c := range []struct {
		event, source, name, path string
		wantName, wantPath        string
	}{
		{event.Span, event.SourceGateway, "POST /v1/foo/what-he-said", "/v1/foo/what-he-said", "POST /v1", "/v1"},
		{event.Span, event.SourceSDK, "POST /v1/foo/what-he-said", "/v1/foo/what-he-said", "POST /v1", "/v1"},
		{event.Span, event.SourceGateway, "POST /what-he-said", "/what-he-said", "POST", ""},
		{event.Span, event.SourceGateway, "POST /v1/files/what-he-said/content", "/v1/files/what-he-said/content", "POST /v1/files", "/v1/files"},
		{event.Span, event.SourceGateway, "POST /v1what-he-said/files", "/v1what-he-said/files", "POST", ""},
		{event.Span, event.SourceGateway, "POST /v1/files/{id}/content", "/v1/files/file-0123456789ab/content", "POST /v1/files/{id}/content", "/v1/files"},
		{event.Span, event.SourceGateway, "POST /v1beta/models", "/v1beta/models", "POST /v1beta/models", "/v1beta/models"},
		{event.Span, event.SourceGateway, "POST /v1/vector_stores/{id}/search", "/v1/vector_stores", "POST /v1/vector_stores/{id}/search", "/v1/vector_stores"},
		{event.Span, event.SourceGateway, "draft", "/v1/foo", "draft", "/v1"},
		{event.Generation, event.SourceGateway, "POST /openai/deployments/mine/chat/completions", "/openai/deployments/mine/chat/completions", "POST /openai/deployments/mine/chat/completions", "/openai/deployments/mine/chat/completions"},
		{event.Span, event.SourceIngest, "POST /orders/new", "/orders/new", "POST /orders/new", "/orders/new"},
		{event.Span, event.SourceGateway, "POST /v1beta/models/gemini-2.5-flash:countTokens", "/v1beta/models/gemini-2.5-flash:countTokens", "POST /v1beta/models/gemini-2.5-flash:countTokens", "/v1beta/models/gemini-2.5-flash:countTokens"},
		{event.Span, event.SourceGateway, "POST /v1beta/models/gemini-2.5-flash:what-he-said", "/v1beta/models/what-he-said:countTokens", "POST /v1beta/models", "/v1beta/models"},
	} {
		e := &event.Event{Name: c.event, Source: c.source, ModelAsked: "gemini-2.5-flash", Method: "POST", SpanName: c.name, BaseURL: base + "/", RequestURL: base + c.path}
		got := privacy.Outbound(e, privacy.OutboundPolicy{PrivacyMode: true})
		if got.SpanName != c.wantName || got.RequestURL != base+c.wantPath {
			t.Errorf("%s: %q, %q", c.name, got.SpanName, got.RequestURL)
		}
		if e.SpanName != c.name || e.RequestURL != base+c.path {
			t.Errorf("%s: changed before storage", c.name)
		}
		if got := privacy.Outbound(e, privacy.OutboundPolicy{}); got.SpanName != c.name || !strings.HasSuffix(got.RequestURL, c.path) {
			t.Errorf("%s without privacy: %q, %q", c.name, got.SpanName, got.RequestURL)
		}
	}
}
