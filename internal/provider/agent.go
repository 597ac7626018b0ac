package provider

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Coding agents send user and session in headers and metadata of their own.
// Formats as observed of Claude Code 2.1, Codex 0.171, Gemini CLI 0.61 and
// opencode 1.18 in November 2026.

// agentProperty is the property with a coding agent's name.
const agentProperty = "coding_agent"

// agentTurn is the header that identifies the conversation of a Claude Code
// subagent.
const agentTurn = "X-Claude-Code-Agent-Id"

// agent records which coding agent made the call.
func (p *parser) agent(name string) {
	if p.e.Properties == nil {
		p.e.Properties = make(map[string]json.RawMessage)
	}
	p.e.Properties[agentProperty] = rawjson.Quote(name)
}

// codingAgent recognises a coding agent by its headers, after the body has been
// read: values of the body take precedence. messages reports that the body is
// complete, so that the calls of one turn can be recognised by their messages.
func (p *parser) codingAgent(messages bool) {
	header := func(names ...string) string {
		for _, name := range names {
			if s := event.FirstChars(strings.TrimSpace(p.c.RequestHeader.Get(name)), longestValue); s != "" {
				return s
			}
		}
		return ""
	}
	client := header("User-Agent")
	session := ""
	switch {
	case strings.HasPrefix(client, "claude-cli/"), header("X-Claude-Code-Session-Id") != "":
		p.agent("claude-code")
		session = header("X-Claude-Code-Session-Id")
	case strings.HasPrefix(client, "codex"), strings.HasPrefix(header("Originator"), "codex"), header("X-Codex-Turn-Metadata") != "":
		p.agent("codex")
		if s := header("X-Codex-Turn-Metadata"); valid(s) {
			p.codex(gjson.Parse(s))
		}
		p.e.User = or(header("Chatgpt-Account-Id"), p.e.User)
		session = header("Session-Id", "Session_id", "Conversation_id")
	case strings.HasPrefix(client, "GeminiCLI"):
		p.agent("gemini-cli")
	case strings.HasPrefix(client, "opencode/"), header("X-Opencode-Session-Id") != "":
		p.agent("opencode")
		session = header("X-Opencode-Session-Id", "X-Session-Id", "X-Session-Affinity")
	}
	p.e.SessionID = or(p.e.SessionID, session)
	if p.e.Properties[agentProperty] != nil && p.e.SessionID != "" && p.e.TraceID == "" && messages {
		p.e.TraceID = turnTrace(p.e.SessionID, header(agentTurn), p.e.Content.Input)
	}
}

// codex reads Codex's metadata of a turn: a header's, or the client_metadata of
// a body or frame, which contains it as text under the header's name.
func (p *parser) codex(v gjson.Result) {
	if !v.IsObject() {
		return
	}
	v.ForEach(func(k, v gjson.Result) bool {
		s := event.FirstChars(text(v), longestValue)
		switch strings.ToLower(k.Str) {
		case "x-codex-turn-metadata":
			if v.Type == gjson.String && valid(v.Str) {
				if inner := gjson.Parse(v.Str); !inner.Get(gjson.Escape("x-codex-turn-metadata")).Exists() {
					p.codex(inner)
				}
			}
		case "session_id", "x-codex-session-id":
			p.e.SessionID = or(p.e.SessionID, s)
		case "turn_id":
			p.e.TraceID = or(p.e.TraceID, s)
		case "installation_id", "x-codex-installation-id":
			p.e.User = or(p.e.User, s)
		default:
			return true
		}
		p.agent("codex")
		return true
	})
}

// turnTrace returns the trace of a turn, for agents that do not number their
// turns: a turn begins with the user's last own message, after which its calls
// have only responses and tool results. The text is compared, since marks such
// as cache_control move from call to call. It returns "" if there is no such
// message.
func turnTrace(session, subagent string, messages json.RawMessage) string {
	turn, words := 0, ""
	gjson.ParseBytes(messages).ForEach(func(_, m gjson.Result) bool {
		if m.Get("role").Str != "user" {
			return true
		}
		content := m.Get("content")
		if !content.Exists() {
			content = m.Get("parts") // Gemini
		}
		said, result := content.Str, false
		content.ForEach(func(_, item gjson.Result) bool {
			result = result || item.Get("type").Str == "tool_result" || item.Get("functionResponse").Exists()
			said += item.Get("text").Str
			return content.IsArray()
		})
		if !result {
			turn, words = turn+1, said
		}
		return true
	})
	if turn == 0 {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d\x00%s", session, subagent, turn, words))
	return hex.EncodeToString(sum[:16])
}
