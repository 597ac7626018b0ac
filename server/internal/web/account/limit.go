package account

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// How many sign-ins may fail within tryWindow: from one network address; for
// one account, from any address; from this machine, which may be many users
// behind a proxy or a single attacker; and in total. Addresses are blocked
// until the window has passed. The others are only slowed down, up to a
// maximum, so that someone else's guesses lock no one out for long. A sign-in
// from an address that the user has signed in from before is not slowed down,
// and neither is a one-time link.
const (
	addressTries  = 30
	accountTries  = 10
	loopbackTries = 30
	globalTries   = 200
	tryWindow     = 15 * time.Minute

	accountWait  = time.Minute // the longest
	loopbackWait = 5 * time.Second
	globalWait   = 2 * time.Second

	knownFor = 30 * 24 * time.Hour

	limiterKeys = 10_000 // bound of memory; beyond it the oldest are forgotten
)

// tries are the limits of sign-ins.
type tries struct {
	byAddress                       *limiter
	byAccount, byMachine, byAnybody backoff

	now   func() time.Time
	mu    sync.Mutex
	known map[string]time.Time // of account and address: when they last signed in
}

func newTries(now func() time.Time) *tries {
	return &tries{
		byAddress: newLimiter(addressTries, tryWindow, now),
		byAccount: backoff{free: accountTries, base: time.Second, max: accountWait, forget: tryWindow, now: now},
		byMachine: backoff{free: loopbackTries, base: time.Second, max: loopbackWait, forget: tryWindow, now: now},
		byAnybody: backoff{free: globalTries, base: globalWait / 8, max: globalWait, forget: tryWindow, now: now},
		now:       now, known: make(map[string]time.Time),
	}
}

// try is a sign-in attempt whose password is about to be checked.
type try struct {
	address, account string
	known            bool // the account has signed in from the address before
	last             bool // it was the last free one of its address or account
}

// link counts an attempt with a one-time link, which the limits of accounts do
// not delay.
func (t *tries) link(address string) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, wait = t.from(address)
	return wait
}

// from counts an attempt from an address.
func (t *tries) from(address string) (last bool, wait time.Duration) {
	if !loopback(address) {
		left, wait := t.byAddress.take(address)
		return left == 0, wait
	}
	if wait := t.byMachine.wait(""); wait > 0 {
		return false, wait
	}
	return t.byMachine.count("") == loopbackTries, 0
}

// take counts an attempt before it is made, so that concurrent ones cannot all
// pass. One that has to wait is not counted.
func (t *tries) take(address, account string) (x try, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x = try{address: address, account: account}
	last, ok := t.known[account+" "+address]
	x.known = ok && t.now().Sub(last) < knownFor
	if !x.known {
		if wait := max(t.byAccount.wait(account), t.byAnybody.wait("")); wait > 0 {
			return x, wait
		}
	}
	if x.last, wait = t.from(address); wait > 0 || x.known {
		return x, wait
	}
	t.byAnybody.count("")
	x.last = t.byAccount.count(account) == accountTries || x.last
	return x, 0
}

// arrived uncounts a successful attempt from an address.
func (t *tries) arrived(address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.arrive(address)
}

func (t *tries) arrive(address string) {
	if loopback(address) {
		t.byMachine.giveBack("")
	} else {
		t.byAddress.giveBack(address)
	}
}

// passed takes back what was counted for a right password, and remembers where it
// came from.
func (t *tries) passed(x try) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.arrive(x.address)
	if !x.known {
		t.byAnybody.giveBack("")
	}
	t.byAccount.clear(x.account)
	if loopback(x.address) { // any client may appear as this machine
		return
	}
	if len(t.known) >= limiterKeys {
		oldest, at := "", t.now()
		for key, last := range t.known {
			if !last.After(at) {
				oldest, at = key, last
			}
		}
		delete(t.known, oldest)
	}
	t.known[x.account+" "+x.address] = t.now()
}

func loopback(address string) bool {
	ip, err := netip.ParseAddr(address)
	return err == nil && ip.IsLoopback()
}

// limiter counts attempts by key in a sliding window. Each process counts for
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

// take counts an attempt before it is made, so that concurrent ones cannot all
// pass. It returns how many are left and, where there were too many, how long
// to wait.
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

// giveBack uncounts the last attempt, which succeeded.
func (l *limiter) giveBack(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tries[key]; len(t) > 1 {
		l.tries[key] = t[:len(t)-1]
	} else {
		delete(l.tries, key)
	}
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
func (s *Pages) address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	ip = ip.Unmap()
	if ip.IsLoopback() && !s.proxy(ip) && r.Header.Get("X-Forwarded-For") != "" {
		s.unbelieved.Do(func() {
			s.Log.Warn("X-Forwarded-For from a proxy on this machine is not trusted: failed sign-ins are counted together; set public_url to the address that users open, or trusted_proxies")
		})
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.proxy(ip); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		ip = hop.Unmap()
	}
	if ip.Is6() && !ip.IsLoopback() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// proxy reports whether an address is that of a trusted proxy: one that is
// configured or, if users reach hedgerow under a name other than this machine's
// own, one on this machine. Without such a name there is no proxy between this
// machine and itself.
func (s *Pages) proxy(ip netip.Addr) bool {
	return ip.IsLoopback() && s.published() || slices.ContainsFunc(s.proxies, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// published reports whether people reach hedgerow under another name than this
// machine's own.
func (s *Pages) published() bool {
	u, err := url.Parse(s.PublicURL)
	if err != nil || u.Hostname() == "" || strings.EqualFold(u.Hostname(), "localhost") {
		return false
	}
	return !loopback(u.Hostname())
}
