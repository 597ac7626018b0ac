package account

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(3, time.Minute, time.Now)
		for i := range 3 {
			if left, wait := l.take("a"); wait != 0 || left != 2-i {
				t.Fatalf("try %d: %d left, wait %v", i, left, wait)
			}
			time.Sleep(10 * time.Second)
		}
		if _, wait := l.take("a"); wait != 30*time.Second {
			t.Errorf("wait %v, want the rest of the window of the first try", wait)
		}
		if _, wait := l.take("b"); wait != 0 {
			t.Errorf("another key waits %v", wait)
		}
		time.Sleep(30 * time.Second)
		if left, wait := l.take("a"); wait != 0 || left != 0 {
			t.Errorf("after the first try has aged: %d left, wait %v", left, wait)
		}
		if _, wait := l.take("a"); wait != 10*time.Second {
			t.Errorf("wait %v, want 10 s: the window slides", wait)
		}
		l.giveBack("a")
		if _, wait := l.take("a"); wait != 0 {
			t.Errorf("wait %v after one was given back", wait)
		}
	})
}

func take(b *backoff, key string) (int, time.Duration) {
	if wait := b.wait(key); wait > 0 {
		return 0, wait
	}
	return b.count(key), 0
}

// TestBackoff: a key is slowed down, and never blocked for longer than the
// maximum.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backoff{free: 3, base: time.Second, max: 10 * time.Second, forget: 15 * time.Minute, now: time.Now}
		for i := range 3 {
			if n, wait := take(b, "a"); wait != 0 || n != i+1 {
				t.Fatalf("try %d: %d, wait %v", i, n, wait)
			}
		}
		for i, want := range []time.Duration{1, 2, 4, 8, 10, 10, 10} {
			for range 5 { // asking again does not make it longer
				if _, wait := take(b, "a"); wait != want*time.Second {
					t.Errorf("after %d tries: wait %v, want %v", 3+i, wait, want*time.Second)
				}
			}
			time.Sleep(want * time.Second)
			if _, wait := take(b, "a"); wait != 0 {
				t.Errorf("waited as told, and again %v", wait)
			}
		}
		if _, wait := take(b, "b"); wait != 0 {
			t.Errorf("another key waits %v", wait)
		}
		time.Sleep(15 * time.Minute)
		if n, wait := take(b, "a"); wait != 0 || n != 1 {
			t.Errorf("after a pause: %d, wait %v", n, wait)
		}
		take(b, "a")
		take(b, "a")
		b.giveBack("a")
		if n, wait := take(b, "a"); wait != 0 || n != 3 {
			t.Errorf("after a success: %d, wait %v", n, wait)
		}
		b.clear("a")
		if n, wait := take(b, "a"); wait != 0 || n != 1 {
			t.Errorf("cleared: %d, wait %v", n, wait)
		}
		for i := range limiterKeys + 100 {
			take(b, fmt.Sprint("k", i))
		}
		if n := len(b.keys); n > limiterKeys {
			t.Errorf("%d keys, bound %d", n, limiterKeys)
		}
	})
}

// TestTries plays a guesser on this machine that gives itself another address with
// each try, believed or not: what it can try in an hour, and how long those wait
// whose passwords are right.
func TestTries(t *testing.T) {
	for _, believed := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newTries(time.Now)
			const owner, home = "account-0", "203.0.113.7"
			x, wait := s.take(home, owner)
			if wait != 0 {
				t.Fatal(wait)
			}
			s.passed(x) // has signed in before
			guesses := map[string]int{}
			var longest time.Duration
			for i, begin := 0, time.Now(); time.Since(begin) < time.Hour; i++ {
				address := "127.0.0.1"
				if believed {
					address = fmt.Sprintf("198.51.%d.%d", i/250%250, i%250)
				}
				account := fmt.Sprint("account-", i%5)
				if _, wait := s.take(address, account); wait == 0 {
					guesses[account]++
				}
				time.Sleep(500 * time.Millisecond)
				if i%10 != 0 {
					continue
				}
				// The owner at a known address is not slowed down.
				x, wait := s.take(home, owner)
				if wait != 0 {
					t.Fatalf("the owner waits %v", wait)
				}
				s.arrived(x.address) // and does not clear the account: that would help the guesser
				// Another user with the right password, from a new address.
				if x, wait = s.take(fmt.Sprint("203.0.113.", i%200), "somebody"); wait == 0 {
					s.arrived(x.address)
					s.byAccount.clear("somebody")
					s.byAnybody.giveBack("")
				}
				longest = max(longest, wait)
			}
			for account, n := range guesses {
				if n > 75 { // 10 at once, then one a minute
					t.Errorf("believed %t: %d guesses for %s in an hour", believed, n, account)
				}
			}
			if longest > globalWait {
				t.Errorf("believed %t: somebody with the right password waits %v", believed, longest)
			}
			if len(guesses) != 5 {
				t.Errorf("guesses %v", guesses)
			}
			t.Logf("believed %t: guesses in an hour %v, longest wait of others %v", believed, guesses, longest)
		})
	}
}

// TestLimiterAtOnce counts tries before they are made: of many at the same
// moment no more pass than of many in a row.
func TestLimiterAtOnce(t *testing.T) {
	l := newLimiter(10, time.Minute, time.Now)
	var passed atomic.Int32
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if _, wait := l.take("a"); wait == 0 {
				passed.Add(1)
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n != 10 {
		t.Errorf("%d passed, want 10", n)
	}
}

// TestLimiterMemory bounds the keys; those that are still in use are kept.
func TestLimiterMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, time.Minute, time.Now)
		for i := range limiterKeys + 100 {
			l.take(strconv.Itoa(i))
			if i%1000 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		if n := len(l.tries); n > limiterKeys {
			t.Errorf("%d keys, bound %d", n, limiterKeys)
		}
		if _, wait := l.take(strconv.Itoa(limiterKeys + 99)); wait == 0 {
			t.Error("the newest key was forgotten")
		}
		time.Sleep(time.Minute)
		l.take("after")
		if n := len(l.tries); n != 1 {
			t.Errorf("%d keys after all have aged, want 1", n)
		}
	})
}

func TestAddress(t *testing.T) {
	s := &Pages{Site: &page.Site{Log: slog.New(slog.DiscardHandler), PublicURL: "https://hedgerow.example"}, proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for _, c := range []struct{ peer, forwarded, want string }{
		{"203.0.113.9:1", "", "203.0.113.9"},
		{"203.0.113.9:1", "198.51.100.1", "203.0.113.9"}, // says who? not a proxy of ours
		{"127.0.0.1:1", "198.51.100.1", "198.51.100.1"},
		{"[::1]:1", "6.6.6.6, 198.51.100.1", "198.51.100.1"}, // what the client wrote itself is on the left
		{"127.0.0.1:1", "6.6.6.6, 198.51.100.1, 10.1.2.3", "198.51.100.1"},
		{"127.0.0.1:1", "nonsense", "127.0.0.1"},
		{"127.0.0.1:1", "", "127.0.0.1"},
		{"[::1]:1", "", "::1"},
		{"[2001:db8:1:2:3:4:5:6]:1", "", "2001:db8:1:2::/64"},
		{"[::ffff:203.0.113.9]:1", "", "203.0.113.9"},
		{"@", "", "@"},
	} {
		r := httptest.NewRequest("POST", "/sign-in", nil)
		r.RemoteAddr = c.peer
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := s.address(r); got != c.want {
			t.Errorf("%s, forwarded for %q: %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
	// If users reach hedgerow under this machine's own name there is no proxy,
	// unless one is configured.
	for public, want := range map[string]string{"http://127.0.0.1:4100": "127.0.0.1", "http://localhost:4100": "127.0.0.1", "http://[::1]:4100": "127.0.0.1", "": "127.0.0.1", "http://hedgerow.example": "198.51.100.1"} {
		r := httptest.NewRequest("POST", "/sign-in", nil)
		r.RemoteAddr = "127.0.0.1:1"
		r.Header.Set("X-Forwarded-For", "198.51.100.1")
		s := &Pages{Site: &page.Site{Log: slog.New(slog.DiscardHandler), PublicURL: public}}
		if got := s.address(r); got != want {
			t.Errorf("reached as %q: %s, want %s", public, got, want)
		}
		s.proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		if got := s.address(r); got != "198.51.100.1" {
			t.Errorf("reached as %q, with loopback configured: %s", public, got)
		}
	}
}

func TestBrowser(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15":         "Safari on macOS",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0": "Edge on Windows",
		"Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36":                  "Chrome on Android",
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                        "Firefox on Linux", "curl/8.5.0": "curl", "": "unknown browser", "robot": "robot",
	} {
		if got := browser(agent); got != want {
			t.Errorf("%q is %q, want %q", agent, got, want)
		}
	}
}
