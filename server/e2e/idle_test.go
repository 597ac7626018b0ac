package e2e

import (
	"testing"
	"time"
)

// TestIdle checks that an idle server uses almost no CPU time. CPU time does
// not depend on other load of the machine.
func TestIdle(t *testing.T) {
	w := newWorld(t)
	p := w.start()
	if status, answer, err := p.post(t.Context(), "/openai/v1/chat/completions", "", outcomeBody); err != nil || status != 200 {
		t.Fatalf("%d %s %v", status, answer, err)
	}
	p.awaitStored("", 1)
	const settle, length = 4 * time.Second, 5 * time.Second
	time.Sleep(settle) // connections, and the first rounds of background work
	before, _ := p.usage()
	time.Sleep(length)
	after, rss := p.usage()
	used := after - before
	t.Logf("%v of CPU time in %v, %d MiB resident", used, length, rss>>20)
	if used > length/20 {
		t.Errorf("an idle server used %v of CPU time in %v", used, length)
	}
}
