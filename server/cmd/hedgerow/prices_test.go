package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
)

// prices runs a "hedgerow prices" command in this process and returns what it printed.
func prices(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := root()
	cmd.Writer, cmd.ErrWriter = &out, &out
	err := cmd.Run(context.Background(), append([]string{"hedgerow", "prices"}, args...))
	return out.String(), err
}

// dataFolder is one on which hedgerow has been started.
func dataFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "journal"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPricesListAndShow(t *testing.T) {
	dir := dataFolder(t)
	cfg := filepath.Join(dir, "hedgerow.yaml")
	if err := os.WriteFile(cfg, []byte("data: "+dir+"\nprices:\n  - {model: my-model, input: 0.9, output: 2.7, request: 0.01}\nazure_deployments: {prod-chat: gpt-4.1-mini}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args []string
		want []string // regular expressions
	}{
		{[]string{"list"}, []string{`(?m)^PROVIDER +MODEL +INPUT`, `(?m)^any +my-model +0\.9 +2\.7 +– +– +manual *$`, `(?m)^openai +gpt-4\.1-mini +0\.4 +1\.6 +0\.1 +– +table +2026-`, `(?m)^anthropic +claude-sonnet-4-6 +3 +15 +0\.3 +3\.75 `}},
		{[]string{"list", "Bedrock"}, []string{`(?m)^amazon-bedrock +amazon\.nova-pro-v1:0 `}},
		{[]string{"show", "openai/gpt-4.1-mini-2025-04-14"}, []string{`model +gpt-4\.1-mini`, `provider +openai`, `from +the built-in table, https://\S+.*, 2026-`, `input +\$0\.4 per million tokens`, `web search +\$0\.01 each`}},
		{[]string{"show", "gpt-4o"}, []string{`cache read +\$1\.25 per million tokens`, `output processing=batch from 2026-\d\d-\d\d +\$5 per million tokens`, `code session +\$0\.03 each`, `kept +code_session: the built-in table, https://.*, 2026-`}},
		{[]string{"show", "claude-sonnet-4-6"}, []string{`tokens geo=us +× 1\.1`}},
		{[]string{"show", "whisper-1"}, []string{`hour +\$0\.36 each`}},
		{[]string{"show", "gemini-2.5-pro"}, []string{`input above 200000 input tokens +\$2\.5 per million`}},
		{[]string{"show", "my-model"}, []string{`provider +any`, `from +the configuration file\n`, `request +\$0\.01 each`}},
		{[]string{"show", "--provider", "azure", "prod-chat"}, []string{`model +gpt-4\.1-mini`}},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			args := append([]string{tt.args[0], "--config", cfg}, tt.args[1:]...)
			got, err := prices(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if !regexp.MustCompile(want).MatchString(got) {
					t.Errorf("no %s in:\n%s", want, got)
				}
			}
		})
	}
	if got, _ := prices(t, "list", "--config", cfg, "bedrock"); strings.Contains(got, "openai ") {
		t.Error("list bedrock lists openai")
	}
	for _, args := range [][]string{{"show", "never-heard-of"}, {"show"}, {"list", "nobody"}} {
		_, err := prices(t, append([]string{args[0], "--config", cfg}, args[1:]...)...)
		var e *event.Error
		if !errors.As(err, &e) || e.Hint == "" {
			t.Errorf("%v: got %v, want an error with a hint", args, err)
		}
	}
}

func TestPricesSync(t *testing.T) {
	dir := dataFolder(t)
	from := filepath.Join(dir, "models.json")
	list := `{"data": [{"id": "openai/gpt-4.1-mini", "pricing": {"prompt": "0.0000003", "completion": "0.0000016", "request": "0"}}, {"id": "vendor/new", "pricing": {"prompt": "0.000001", "completion": "0.000002"}}]}`
	if err := os.WriteFile(from, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	synced := filepath.Join(dir, "prices.json")
	out, err := prices(t, "sync", "--data", dir, "--from", from, "--dry-run")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"~ openai gpt-4.1-mini: input $0.40 → $0.30", "+ openrouter vendor/new: input $1, output $2", "3 differences; nothing was changed"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if _, err := os.Stat(synced); err == nil {
		t.Error("with --dry-run something was written")
	}
	if out, err = prices(t, "sync", "--data", dir, "--from", from); err != nil || !strings.Contains(out, "3 differences applied") {
		t.Fatalf("%s, %v", out, err)
	}
	if out, err = prices(t, "show", "--data", dir, "gpt-4.1-mini"); err != nil || !strings.Contains(out, "$0.3 per million") || !strings.Contains(out, "hedgerow prices sync, "+from) {
		t.Errorf("%s, %v", out, err)
	}
	if !regexp.MustCompile(`(?m)^kept +cache_read, .*: the built-in table, `).MatchString(out) || !regexp.MustCompile(`(?m)^cache read +\$0\.1 per`).MatchString(out) {
		t.Errorf("what the list does not state is lost, or its source:\n%s", out)
	}
	if out, err = prices(t, "sync", "--data", dir, "--from", from); err != nil || !strings.HasPrefix(out, "0 differences") {
		t.Errorf("%s, %v", out, err)
	}
	if err := os.WriteFile(synced, []byte(`{"version":1,"ro`), 0o600); err != nil {
		t.Fatal(err)
	}
	var e *event.Error
	if _, err = prices(t, "list", "--data", dir); !errors.As(err, &e) || !strings.Contains(e.Message, synced) || e.Hint == "" {
		t.Errorf("a damaged file: got %v", err)
	}
}
