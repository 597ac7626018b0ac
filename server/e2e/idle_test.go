package e2e

import (
	"testing"
	"time"
)

// TestIdle: a server that has served and has nothing to do uses next to no
// processor time. CPU time does not grow with what else runs on the machine.
func TestIdle(t *testing.T) {
	w := newWorld(t)
	p := w.start()
	if status, answer, err := p.post(t.Context(), "/openai/v1/chat/completions", "", outcomeBody); err != nil || status != 200 {
		t.Fatalf("%d %s %v", status, answer, err)
	}
	p.awaitStored("", 1)
	const settle, length = 4 * time.Second, 5 * time.Second
	time.Sleep(settle) // connections, first rounds of what works in the background
	before, _ := p.usage()
	time.Sleep(length)
	after, rss := p.usage()
	used := after - before
	t.Logf("%v of processor time in %v, %d MiB resident", used, length, rss>>20)
	if used > length/20 {
		t.Errorf("an idle server used %v of processor time in %v", used, length)
	}
}
