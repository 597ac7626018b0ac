package web

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// How many sign-ins may fail within tryWindow: of one network address, and of
// one account, from wherever. A one-time link is not bound by the account's
// limit, so that whoever is locked out by somebody else's guesses has a way in.
const (
	addressTries = 30
	accountTries = 10
	tryWindow    = 15 * time.Minute

	limiterKeys = 10_000 // bound of memory; beyond it the oldest are forgotten
)

// limiter counts tries by key in a sliding window. Each process counts for
// itself.
type limiter struct {
	max    int
	window time.Duration
	now    func() time.Time

	mu    sync.Mutex
	tries map[string][]time.Time // oldest first
}

func newLimiter(limit int, window time.Duration, now func() time.Time) *limiter {
	return &limiter{max: limit, window: window, now: now, tries: make(map[string][]time.Time)}
}

// take counts a try before it is made, so that many at once cannot all pass. It
// returns how many are left and, where there were too many, how long to wait.
func (l *limiter) take(key string) (left int, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	t := l.live(key, now)
	if len(t) >= l.max {
		l.tries[key] = t
		return 0, t[0].Add(l.window).Sub(now)
	}
	if len(t) == 0 && len(l.tries) >= limiterKeys {
		l.makeRoom(now)
	}
	l.tries[key] = append(t, now)
	return l.max - len(t) - 1, 0
}

// giveBack takes back the last try, which has succeeded.
func (l *limiter) giveBack(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tries[key]; len(t) > 1 {
		l.tries[key] = t[:len(t)-1]
	} else {
		delete(l.tries, key)
	}
}

// forget clears a key.
func (l *limiter) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tries, key)
}

func (l *limiter) live(key string, now time.Time) []time.Time {
	return slices.DeleteFunc(l.tries[key], func(t time.Time) bool { return now.Sub(t) >= l.window })
}

func (l *limiter) makeRoom(now time.Time) {
	var oldest string
	var at time.Time
	for key := range l.tries {
		t := l.live(key, now)
		if len(t) == 0 {
			delete(l.tries, key)
			continue
		}
		l.tries[key] = t
		if last := t[len(t)-1]; oldest == "" || last.Before(at) {
			oldest, at = key, last
		}
	}
	if len(l.tries) >= limiterKeys {
		delete(l.tries, oldest)
	}
}

// address is the network address that a request counts for: the peer's, or
// what a proxy that is believed says of its own peer. An IPv6 network counts as
// one: its owner has all of it.
func (s *Web) address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	ip = ip.Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.proxy(ip); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		ip = hop.Unmap()
	}
	if ip.Is6() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

func (s *Web) proxy(ip netip.Addr) bool {
	return ip.IsLoopback() || slices.ContainsFunc(s.c.Proxies, func(p netip.Prefix) bool { return p.Contains(ip) })
}
