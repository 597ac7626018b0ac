package provider_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

func askedBy(t *testing.T, dialect provider.Dialect, path, body string, header ...string) *event.Event {
	t.Helper()
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return provider.Parse(&provider.Call{Dialect: dialect, Method: http.MethodPost, Path: path, RequestHeader: h, Request: []byte(body), Start: time.Unix(1_795_000_000, 0), Status: 200})
}

func TestCodingAgents(t *testing.T) {
	const claude = `{"model":"claude-sonnet-4-5","metadata":{"user_id":"{\"device_id\":\"d1\",\"account_uuid\":\"a1\",\"session_id\":\"s1\"}"},"messages":[{"role":"user","content":"hi"}]}`
	const turn = `{"installation_id":"i1","session_id":"s2","thread_id":"h2","turn_id":"t2"}`
	for name, c := range map[string]struct {
		dialect                           provider.Dialect
		path, body                        string
		header                            []string
		agent, user, session, traceIsTurn string
	}{
		"Claude Code":                         {provider.Anthropic, "/v1/messages", claude, []string{"User-Agent", "claude-cli/2.1.332 (external, cli)", "X-Claude-Code-Session-Id", "s1"}, "claude-code", "a1", "s1", ""},
		"Claude Code behind a proxy":          {provider.Anthropic, "/v1/messages", claude, nil, "claude-code", "a1", "s1", ""},
		"Codex":                               {provider.OpenAI, "/v1/responses", `{"model":"gpt-5","input":"hi"}`, []string{"Originator", "codex_exec", "User-Agent", "codex_exec/0.171.0", "X-Codex-Turn-Metadata", turn, "Session-Id", "s2"}, "codex", "i1", "s2", "t2"},
		"Codex with a ChatGPT login":          {provider.OpenAI, "/v1/responses", `{"model":"gpt-5","input":"hi"}`, []string{"Originator", "codex_cli_rs", "X-Codex-Turn-Metadata", turn, "Chatgpt-Account-Id", "acc"}, "codex", "acc", "s2", "t2"},
		"Codex, metadata in the body":         {provider.OpenAI, "/v1/responses", `{"model":"gpt-5","input":"hi","client_metadata":{"x-codex-turn-metadata":"{\"installation_id\":\"i1\",\"session_id\":\"s2\",\"turn_id\":\"t2\"}"}}`, nil, "codex", "i1", "s2", "t2"},
		"Codex of 2025":                       {provider.OpenAI, "/v1/responses", `{"model":"gpt-5","input":"hi"}`, []string{"User-Agent", "codex_cli_rs/0.40", "Session_id", "s3"}, "codex", "", "s3", ""},
		"Gemini CLI":                          {provider.Gemini, "/v1beta/models/gemini-2.5-flash:generateContent", `{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}`, []string{"User-Agent", "GeminiCLI-tui/0.61.0/gemini-2.5-flash (linux; x64)"}, "gemini-cli", "", "", ""},
		"opencode":                            {provider.OpenAI, "/v1/chat/completions", `{"model":"gpt-5","messages":[{"role":"user","content":"hi"}]}`, []string{"User-Agent", "opencode/1.18.34 ai-sdk/openai", "X-Session-Affinity", "ses_1"}, "opencode", "", "ses_1", ""},
		"no agent":                            {provider.OpenAI, "/v1/chat/completions", `{"model":"gpt-5","messages":[{"role":"user","content":"hi"}],"metadata":{"client":"codex"}}`, []string{"User-Agent", "OpenAI/Python 3.57.0", "X-Session-Id", "x"}, "", "", "", ""},
		"broken metadata of Codex":            {provider.OpenAI, "/v1/responses", `{"model":"gpt-5","input":"hi","client_metadata":{"x-codex-turn-metadata":"{"}}`, []string{"Originator", "codex_exec", "X-Codex-Turn-Metadata", "{"}, "codex", "", "", ""},
		"the body's session takes precedence": {provider.OpenAI, "/v1/chat/completions", `{"model":"gpt-5","session_id":"mine","messages":[{"role":"user","content":"hi"}]}`, []string{"User-Agent", "opencode/1.18.34", "X-Session-Id", "ses_1"}, "opencode", "", "mine", ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := askedBy(t, c.dialect, c.path, c.body, c.header...)
			agent := ""
			if v := e.Properties["coding_agent"]; v != nil {
				agent = string(v[1 : len(v)-1])
			}
			if agent != c.agent || e.User != c.user || e.SessionID != c.session || c.traceIsTurn != "" && e.TraceID != c.traceIsTurn {
				t.Errorf("agent %q, user %q, session %q, trace %q", agent, e.User, e.SessionID, e.TraceID)
			}
		})
	}
}

// TestTurnsOfAnAgent checks that the calls of one turn share a trace and that
// the next turn has another, although cache marks move and responses are added.
func TestTurnsOfAnAgent(t *testing.T) {
	trace := func(messages string, header ...string) string {
		return askedBy(t, provider.Anthropic, "/v1/messages", `{"model":"claude-sonnet-4-5","messages":[`+messages+`]}`, append(header, "User-Agent", "claude-cli/2.1.332", "X-Claude-Code-Session-Id", "s1")...).TraceID
	}
	const asked, marked = `{"role":"user","content":[{"type":"text","text":"fix it"}]}`, `{"role":"user","content":[{"type":"text","text":"fix it","cache_control":{"type":"ephemeral"}}]}`
	const ran = `,{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"ls","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"a.go"},{"type":"text","text":"a reminder"}]}`
	first := trace(marked)
	if len(first) != 32 || trace(asked+ran) != first || trace(asked+ran+ran) != first {
		t.Errorf("one turn has the traces %q, %q, %q", first, trace(asked+ran), trace(asked+ran+ran))
	}
	for name, other := range map[string]string{
		"the next turn": trace(asked + ran + `,{"role":"assistant","content":"done"},{"role":"user","content":"fix it"}`),
		"a subagent":    trace(asked, "X-Claude-Code-Agent-Id", "g1"),
	} {
		if other == first || len(other) != 32 {
			t.Errorf("%s has the trace %q of the first turn", name, other)
		}
	}
}
