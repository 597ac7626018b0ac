package listen

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says what a Limiter allows.
type Config struct {
	Connections int // over all listeners. Required

	// PerAddress is how many of them one address may have, an IPv6 one with all of
	// its /64. Defaults to a quarter of Connections. It does not hold for loopback
	// and for Trusted: behind those are proxies that bring the connections of many.
	PerAddress int

	Trusted func(netip.Addr) bool // nil: none

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

const (
	headerGrace = time.Second // a connection that has sent no header for so long may be closed for another
	idleGrace   = time.Second // and one that is idle for so long

	// And one whose caller has taken nothing of what it is sent for so long. It
	// is as long as an upload may stand still, and only if there is no other
	// space.
	unreadGrace = 30 * time.Second
	lookEvery   = 250 * time.Millisecond // for those, at most

	refusing   = 8                      // connections that get this response at a time; the others are just closed
	refusalMax = 500 * time.Millisecond // to tell one
	logEvery   = 10 * time.Second
)

// Limiter counts connections. It is safe for concurrent use.
type Limiter struct {
	c        Config
	log      *slog.Logger
	now      func() time.Time
	refusals chan struct{}

	mu     sync.Mutex
	open   int
	by     map[netip.Prefix]int
	fresh  list.List // *conn that have sent no complete header yet, the oldest first
	idle   list.List // *conn between two calls, the longest first
	active list.List // *conn with a call, the longest first
	looked time.Time // when none of active could be closed
	logged time.Time
	silent int // refused since

	refused *prometheus.CounterVec
	closed  *prometheus.CounterVec
}

// New returns a limiter of no connections yet.
func New(c Config) (*Limiter, error) {
	if c.Connections <= 0 {
		return nil, errors.New("listen: Config.Connections is not positive")
	}
	if c.PerAddress <= 0 {
		c.PerAddress = max(c.Connections/4, 1)
	}
	l := &Limiter{c: c, log: c.Logger, now: c.Now, refusals: make(chan struct{}, refusing), by: make(map[netip.Prefix]int),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "hedgerow", Name: "connections_refused_total", Help: "Connections that were answered 503, or closed at once, by reason: limit (of all), address (of one)."}, []string{"reason"}),
		closed:  prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "hedgerow", Name: "connections_closed_total", Help: "Connections closed in favor of others, by what they were waiting for: header, idle, unread (the client does not read its response)."}, []string{"state"}),
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.now == nil {
		l.now = time.Now
	}
	for _, r := range []string{"limit", "address"} {
		l.refused.WithLabelValues(r)
	}
	for _, s := range []string{"header", "idle", "unread"} {
		l.closed.WithLabelValues(s)
	}
	if c.Registerer == nil {
		return l, nil
	}
	for _, m := range []prometheus.Collector{l.refused, l.closed,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "hedgerow", Name: "connections", Help: "Connections that callers have open."}, func() float64 { return float64(l.Open()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "hedgerow", Name: "connections_max", Help: "Maximum number of client connections (max_connections)."}, func() float64 { return float64(c.Connections) }),
	} {
		if err := c.Registerer.Register(m); err != nil {
			return nil, fmt.Errorf("register metrics of listen: %w", err)
		}
	}
	return l, nil
}

// Open is how many connections there are.
func (l *Limiter) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// HTTP returns a listener whose connections are counted, for a server that
// [Limiter.Watch] was called for.
func (l *Limiter) HTTP(inner net.Listener) net.Listener { return &listener{inner, l, true} }

// Watch has the limiter learn what the connections of a server do. Call it before
// the server serves.
func (l *Limiter) Watch(srv *http.Server) {
	next := srv.ConnState
	srv.ConnState = func(c net.Conn, s http.ConnState) {
		l.state(c, s)
		if next != nil {
			next(c, s)
		}
	}
}

// Other returns a listener whose connections are counted, for a server of another
// protocol. They are never closed for others.
func (l *Limiter) Other(inner net.Listener) net.Listener { return &listener{inner, l, false} }

type listener struct {
	net.Listener
	l    *Limiter
	http bool
}

func (n *listener) Accept() (net.Conn, error) {
	for {
		c, err := n.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if counted := n.l.admit(c, n.http); counted != nil {
			return counted, nil
		}
	}
}

// conn is a connection that is counted until it is closed.
type conn struct {
	net.Conn
	l    *Limiter
	from netip.Prefix // zero: not counted by address
	once sync.Once

	writing atomic.Int64 // when the current write began, Unix ns; 0: there is none

	// Under the limiter's lock:
	at    time.Time     // when the state began
	place *list.Element // in list; nil where in is nil
	in    *list.List
}

func (c *conn) Close() error {
	c.once.Do(func() { c.l.release(c) })
	return c.Conn.Close()
}

func (c *conn) Write(b []byte) (int, error) {
	c.writing.Store(c.l.now().UnixNano())
	defer c.writing.Store(0)
	return c.Conn.Write(b)
}

// CloseWrite is what net/http does before it closes, so that its answer arrives.
func (c *conn) CloseWrite() error {
	if t, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return t.CloseWrite()
	}
	return nil
}

// admit counts a connection, or rejects it and returns nil.
func (l *Limiter) admit(inner net.Conn, isHTTP bool) net.Conn {
	c := &conn{Conn: inner, l: l, from: l.countedAs(inner.RemoteAddr())}
	l.mu.Lock()
	if c.from.IsValid() && l.by[c.from] >= l.c.PerAddress {
		l.mu.Unlock()
		l.refuse(inner, isHTTP, "address")
		return nil
	}
	var victim *conn
	if l.open >= l.c.Connections {
		if victim = l.victim(); victim == nil {
			l.mu.Unlock()
			l.refuse(inner, isHTTP, "limit")
			return nil
		}
		l.leave(victim) // so that it is chosen once
	}
	l.open++
	if c.from.IsValid() {
		l.by[c.from]++
	}
	if isHTTP {
		l.enter(c, &l.fresh)
	}
	l.mu.Unlock()
	if victim != nil {
		_ = victim.Close()
	}
	return c
}

// victim is a connection that may be closed for another, or nil. The caller holds mu.
func (l *Limiter) victim() *conn {
	now := l.now()
	if e := l.fresh.Front(); e != nil && now.Sub(e.Value.(*conn).at) >= headerGrace {
		l.closed.WithLabelValues("header").Inc()
		return e.Value.(*conn)
	}
	if e := l.idle.Front(); e != nil && now.Sub(e.Value.(*conn).at) >= idleGrace {
		l.closed.WithLabelValues("idle").Inc()
		return e.Value.(*conn)
	}
	if now.Sub(l.looked) < lookEvery {
		return nil
	}
	for e := l.active.Front(); e != nil; e = e.Next() {
		c := e.Value.(*conn)
		if since := c.writing.Load(); since != 0 && now.Sub(time.Unix(0, since)) >= unreadGrace {
			l.closed.WithLabelValues("unread").Inc()
			return c
		}
	}
	l.looked = now
	return nil
}

// enter and leave are called with mu held.
func (l *Limiter) enter(c *conn, in *list.List) {
	c.at, c.in, c.place = l.now(), in, in.PushBack(c)
}

func (l *Limiter) leave(c *conn) {
	if c.in != nil {
		c.in.Remove(c.place)
		c.in, c.place = nil, nil
	}
}

// state follows what a connection of an HTTP server does.
func (l *Limiter) state(nc net.Conn, s http.ConnState) {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		nc = t.NetConn()
	}
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch s {
	case http.StateActive:
		l.leave(c)
		l.enter(c, &l.active)
	case http.StateHijacked, http.StateClosed:
		l.leave(c)
	case http.StateIdle:
		l.leave(c)
		l.enter(c, &l.idle)
	}
}

func (l *Limiter) release(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leave(c)
	l.open--
	if c.from.IsValid() {
		if l.by[c.from]--; l.by[c.from] == 0 {
			delete(l.by, c.from)
		}
	}
}

// countedAs is the address, or the network, whose connections count together.
func (l *Limiter) countedAs(a net.Addr) netip.Prefix {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := t.AddrPort().Addr().Unmap()
	if ip.IsLoopback() || l.c.Trusted != nil && l.c.Trusted(ip) {
		return netip.Prefix{}
	}
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// answer is what a connection too many gets, whatever it asks.
var answer = func() []byte {
	const body = `{"error":{"message":"hedgerow: too many connections (try again in a moment)","type":"api_error","param":null,"code":"unavailable"}}`
	return fmt.Appendf(nil, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\nRetry-After: 1\r\nConnection: close\r\n\r\n%s", len(body), body)
}()

// refuse sends a connection the 503 response, if there are not too many of
// those as well, and closes it.
func (l *Limiter) refuse(c net.Conn, isHTTP bool, reason string) {
	l.refused.WithLabelValues(reason).Inc()
	l.mu.Lock()
	l.silent++
	n, say := l.silent, l.now().Sub(l.logged) >= logEvery
	if say {
		l.logged, l.silent = l.now(), 0
	}
	l.mu.Unlock()
	if say {
		l.log.Warn("connections are rejected: max_connections is reached", "reason", reason, "refused", n, "max_connections", l.c.Connections, "max_connections_per_address", l.c.PerAddress)
	}
	if isHTTP {
		select {
		case l.refusals <- struct{}{}:
			go func() {
				defer func() { <-l.refusals }()
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(refusalMax))
				if _, err := c.Write(answer); err != nil {
					return
				}
				if t, ok := c.(interface{ CloseWrite() error }); ok {
					_ = t.CloseWrite()
				}
				// Closing with bytes unread would take the answer from the caller.
				_, _ = io.CopyN(io.Discard, c, 1<<20)
			}()
			return
		default:
		}
	}
	_ = c.Close()
}
