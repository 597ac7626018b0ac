package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBackup backs up a running server and starts another on the restored
// folder, with the same events, keys and connections.
func TestBackup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.flushFast()
	for range 5 {
		if status, _, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody); err != nil || status != 200 {
			t.Fatalf("%d %v", status, err)
		}
	}
	before := p.awaitStored("", 5)
	folder := filepath.Join(t.TempDir(), "backup")
	if out := w.mustRun("backup", folder); !strings.Contains(out, "secret.key") {
		t.Errorf("backup: %s", out)
	}
	if out, err := w.run("backup", folder); err == nil || !strings.Contains(out, "new folder") {
		t.Errorf("over a backup: %v %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(folder, "secret.key")); err == nil {
		t.Error("the secret key is in the backup")
	}
	p.stop()
	if out, err := w.run("restore", folder); exitCode(err) != 5 || !strings.Contains(out, "already") {
		t.Errorf("over a data folder: exit %d %s", exitCode(err), out)
	}
	key, err := os.ReadFile(filepath.Join(w.dir, "secret.key"))
	if err != nil {
		t.Fatal(err)
	}
	w.dir = filepath.Join(t.TempDir(), "restored")
	w.mustRun("restore", folder)
	if err := os.WriteFile(filepath.Join(w.dir, "secret.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	w.env = []string{"POSTHOG_API_KEY=", "POSTHOG_HOST="}
	p = w.start()
	after := p.stored("") // with the API key of the first start
	if len(after) != len(before) {
		t.Fatalf("%d events after restoring, want %d", len(after), len(before))
	}
	for i := range after {
		if after[i].UUID != before[i].UUID || after[i].Cost.Total.Value.Cmp(before[i].Cost.Total.Value) != 0 {
			t.Errorf("event %d is %+v, was %+v", i, after[i], before[i])
		}
	}
	p.stop()

	w.dir = filepath.Join(t.TempDir(), "without-key")
	w.mustRun("restore", folder)
	q := w.launch()
	<-q.done
	if q.cmd.ProcessState.ExitCode() != 4 || !strings.Contains(q.logs(), "secret key") {
		t.Errorf("with another secret key: exit %d\n%s", q.cmd.ProcessState.ExitCode(), q.logs())
	}
}
