package providers_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/genai"

	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
)

func geminiClient(t *testing.T, s *simprovider.Server, key string) *genai.Client {
	t.Helper()
	c, err := genai.NewClient(context.Background(), &genai.ClientConfig{APIKey: key, Backend: genai.BackendGeminiAPI, HTTPOptions: genai.HTTPOptions{BaseURL: s.GeminiURL()}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func gsim(s string) *genai.HTTPOptions {
	return &genai.HTTPOptions{Headers: http.Header{"X-Sim": {s}}}
}

// TestGemini has the official client read whole answers and streams, and asks
// that both say the same.
func TestGemini(t *testing.T) {
	s := start(t, simprovider.Options{Seed: 1})
	client := geminiClient(t, s, "AIza-test")
	ask := genai.Text("How tall is a hedge?")

	whole, err := client.Models.GenerateContent(t.Context(), "gemini-2.5-flash", ask, nil)
	if err != nil {
		t.Fatal(err)
	}
	u := whole.UsageMetadata
	if n := int32(simprovider.CountTokens(whole.Text())); n == 0 || u.CandidatesTokenCount != n || u.TotalTokenCount != u.PromptTokenCount+n || whole.ModelVersion != "gemini-2.5-flash" || whole.Candidates[0].FinishReason != genai.FinishReasonStop {
		t.Errorf("%q, usage %+v", whole.Text(), u)
	}

	var text string
	var last *genai.GenerateContentResponse
	for chunk, err := range client.Models.GenerateContentStream(t.Context(), "gemini-2.5-flash", ask, nil) {
		if err != nil {
			t.Fatal(err)
		}
		text += chunk.Text()
		last = chunk
	}
	if text != whole.Text() && last.UsageMetadata.CandidatesTokenCount != int32(simprovider.CountTokens(text)) || last.Candidates[0].FinishReason != genai.FinishReasonStop {
		t.Errorf("streamed %q, %+v", text, last.UsageMetadata)
	}

	tools := &genai.GenerateContentConfig{HTTPOptions: gsim("tools=2"), Tools: []*genai.Tool{{FunctionDeclarations: []*genai.FunctionDeclaration{{
		Name: "get_weather", Parameters: &genai.Schema{Type: genai.TypeObject, Properties: map[string]*genai.Schema{"city": {Type: genai.TypeString}}}}}}}}
	called, err := client.Models.GenerateContent(t.Context(), "gemini-2.5-flash", ask, tools)
	if err != nil {
		t.Fatal(err)
	}
	if calls := called.FunctionCalls(); len(calls) != 2 || calls[0].Name != "get_weather" || calls[0].Args["city"] == "" {
		t.Errorf("calls %+v", calls)
	}

	thinking := &genai.GenerateContentConfig{ThinkingConfig: &genai.ThinkingConfig{IncludeThoughts: true}}
	thought, err := client.Models.GenerateContent(t.Context(), "gemini-2.5-pro", ask, thinking)
	if err != nil {
		t.Fatal(err)
	}
	if p := thought.Candidates[0].Content.Parts; len(p) != 2 || !p[0].Thought || thought.UsageMetadata.ThoughtsTokenCount == 0 {
		t.Errorf("parts %+v", p)
	}

	blocked, err := client.Models.GenerateContent(t.Context(), "gemini-2.5-flash", ask, &genai.GenerateContentConfig{HTTPOptions: gsim("refusal")})
	if err != nil || blocked.PromptFeedback == nil || len(blocked.Candidates) != 0 {
		t.Errorf("blocked: %+v, %v", blocked, err)
	}

	counted, err := client.Models.CountTokens(t.Context(), "gemini-2.5-flash", ask, nil)
	if err != nil || counted.TotalTokens != u.PromptTokenCount {
		t.Errorf("counted %+v, %v; the answer says %d", counted, err, u.PromptTokenCount)
	}
	embedded, err := client.Models.EmbedContent(t.Context(), "gemini-embedding-001", append(ask, genai.Text("And a tree?")...), nil)
	if err != nil || len(embedded.Embeddings) != 2 || len(embedded.Embeddings[0].Values) != 768 {
		t.Errorf("embedded %+v, %v", embedded, err)
	}
}

func TestGeminiFailures(t *testing.T) {
	s := start(t, simprovider.Options{})
	for _, c := range []struct {
		key, sim, status string
		code             int
	}{
		{"AIza-test", "rate_limit", "RESOURCE_EXHAUSTED", 429},
		{"AIza-test", "overloaded", "UNAVAILABLE", 503},
		{"AIza-wrong", "", "INVALID_ARGUMENT", 400},
	} {
		_, err := geminiClient(t, s, c.key).Models.GenerateContent(t.Context(), "gemini-2.5-flash", genai.Text("Hi"), &genai.GenerateContentConfig{HTTPOptions: gsim(c.sim)})
		var got genai.APIError
		if !errors.As(err, &got) || got.Code != c.code || got.Status != c.status {
			t.Errorf("%s: %v", c.sim, err)
		}
	}
	n := 0
	var broken error
	for _, err := range geminiClient(t, s, "AIza-test").Models.GenerateContentStream(t.Context(), "gemini-2.5-flash", genai.Text("Hi"), &genai.GenerateContentConfig{HTTPOptions: gsim("mid_error; after=2")}) {
		if err != nil {
			broken = err
			break
		}
		n++
	}
	if n < 2 {
		t.Errorf("%d chunks, then %v", n, broken)
	}
}

// TestGeminiArray reads the form of streams that clients without alt=sse get.
func TestGeminiArray(t *testing.T) {
	s := start(t, simprovider.Options{Seed: 3})
	req, _ := http.NewRequestWithContext(t.Context(), "POST", s.GeminiURL()+"/v1beta/models/gemini-2.5-flash:streamGenerateContent?key=AIza-test", strings.NewReader(`{"contents":[{"parts":[{"text":"Hi"}]}]}`))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || !strings.HasPrefix(string(b), "[{") || !strings.HasSuffix(string(b), "}\n]") || !strings.Contains(string(b), "}\n,\r\n{") || !strings.Contains(string(b), `"finishReason":"STOP"`) {
		t.Errorf("%s, %v", b, err)
	}
}
