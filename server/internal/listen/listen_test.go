package listen_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/server/internal/listen"
)

const patience = 30 * time.Second

// clock can be moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// from has connections come from any address.
type from struct {
	net.Listener
	addr func() net.Addr
}

func (f from) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return fromConn{c, f.addr()}, nil
}

type fromConn struct {
	net.Conn
	addr net.Addr
}

func (c fromConn) RemoteAddr() net.Addr { return c.addr }

// serve serves h behind a limiter and returns the address.
func serve(t *testing.T, c listen.Config, addr func() net.Addr, h http.HandlerFunc) (string, *listen.Limiter) {
	t.Helper()
	c.Registerer = prometheus.NewRegistry()
	l, err := listen.New(c)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if addr != nil {
		inner = from{inner, addr}
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: patience}
	l.Watch(srv)
	go func() { _ = srv.Serve(l.HTTP(inner)) }()
	t.Cleanup(func() {
		_ = srv.Close()
		for begin := time.Now(); l.Open() != 0; time.Sleep(time.Millisecond) {
			if time.Since(begin) > patience {
				t.Errorf("%d connections are still counted", l.Open())
				return
			}
		}
	})
	return inner.Addr().String(), l
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// ask sends a request and returns the status; 0 where the connection was closed.
func ask(t *testing.T, c net.Conn) int {
	t.Helper()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	_, _ = io.ReadAll(res.Body)
	if res.StatusCode == 503 && (res.Header.Get("Retry-After") == "" || !res.Close) {
		t.Errorf("503 with %v", res.Header)
	}
	return res.StatusCode
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatal("waited too long for " + what)
		}
	}
}

// TestLimit has as many calls in progress as allowed: one more is rejected,
// none of them is affected, and there is room again when one ends.
func TestLimit(t *testing.T) {
	release := make(chan struct{})
	now := &clock{now: time.Now()}
	addr, l := serve(t, listen.Config{Connections: 3, Now: now.Now}, nil, func(w http.ResponseWriter, r *http.Request) { <-release })
	answers := make(chan int, 3)
	for range 3 {
		c := dial(t, addr)
		go func() { answers <- ask(t, c) }()
	}
	await(t, "the calls", func() bool { return l.Open() == 3 })
	now.move(time.Minute)
	// They are active once their headers are read: until then one might be closed.
	await(t, "a refusal", func() bool { return ask(t, dial(t, addr)) == 503 })
	for range 30 {
		if got := ask(t, dial(t, addr)); got != 503 && got != 0 {
			t.Fatalf("%d beyond the limit", got)
		}
	}
	close(release)
	for range 3 {
		if got := <-answers; got != 200 {
			t.Errorf("a running call got %d", got)
		}
	}
	now.move(time.Minute)
	if got := ask(t, dial(t, addr)); got != 200 {
		t.Errorf("%d where others are idle", got)
	}
}

// TestHalfHeaders fills all room with connections that send half a header:
// calls still get responses, each in place of the oldest of them.
func TestHalfHeaders(t *testing.T) {
	now := &clock{now: time.Now()}
	addr, l := serve(t, listen.Config{Connections: 10, Now: now.Now}, nil, func(http.ResponseWriter, *http.Request) {})
	var half []net.Conn
	for i := range 10 {
		c := dial(t, addr)
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHo")
		half = append(half, c)
		await(t, "connections", func() bool { return l.Open() == i+1 })
	}
	if got := ask(t, dial(t, addr)); got != 503 {
		t.Errorf("%d: a header of this moment was not waited for", got)
	}
	now.move(2 * time.Second)
	for i := range 3 {
		c := dial(t, addr)
		if got := ask(t, c); got != 200 {
			t.Fatalf("call %d: %d", i, got)
		}
		if _, err := half[i].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the oldest is open: %v", err)
		}
	}
	// The others still may finish.
	_, _ = io.WriteString(half[9], "st: x\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(half[9]), nil); err != nil || res.StatusCode != 200 {
		t.Errorf("%v %v", res, err)
	}
}

// TestIdleMakesRoom closes connections between two calls, the longest idle first.
func TestIdleMakesRoom(t *testing.T) {
	now := &clock{now: time.Now()}
	addr, l := serve(t, listen.Config{Connections: 2, Now: now.Now}, nil, func(http.ResponseWriter, *http.Request) {})
	first, second := dial(t, addr), dial(t, addr)
	await(t, "connections", func() bool { return l.Open() == 2 })
	for i, c := range []net.Conn{first, second, first} { // now the second is idle for longer
		if got := ask(t, c); got != 200 {
			t.Fatal(got)
		}
		await(t, "idle", func() bool { return l.Idle() == min(i+1, 2) })
		now.move(time.Second)
	}
	if got := ask(t, dial(t, addr)); got != 200 {
		t.Fatalf("%d", got)
	}
	if got := ask(t, first); got != 200 {
		t.Errorf("the one used last: %d", got)
	}
	if got := ask(t, second); got != 0 {
		t.Errorf("the one idle longest: %d", got)
	}
}

// TestUnreadAnswersMakeRoom has a caller who takes nothing of an answer give way once
// there is no room, and not one who waits for it.
func TestUnreadAnswersMakeRoom(t *testing.T) {
	now := &clock{now: time.Unix(1, 0)}
	slow := make(chan struct{})
	addr, _ := serve(t, listen.Config{Connections: 2, Now: now.Now}, nil, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/much":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		case "/slow": // a call that waits for its provider
			<-slow
		}
	})
	much, wait := dial(t, addr), dial(t, addr)
	_, _ = io.WriteString(much, "GET /much HTTP/1.1\r\nHost: x\r\n\r\n")
	_, _ = io.WriteString(wait, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	time.Sleep(300 * time.Millisecond) // until much's buffers are full
	if got := ask(t, dial(t, addr)); got != 503 {
		t.Fatalf("with two calls under way: %d", got)
	}
	now.move(31 * time.Second)
	await(t, "room", func() bool { return ask(t, dial(t, addr)) == 200 })
	now.move(time.Hour)
	close(slow)
	if res, err := http.ReadResponse(bufio.NewReader(wait), nil); err != nil || res.StatusCode != 200 {
		t.Errorf("the call that waits: %v", err)
	}
}

// TestPerAddress bounds one address and leaves loopback and proxies alone.
func TestPerAddress(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	for _, tc := range []struct {
		name  string
		addrs []string // of 6 connections in turn
		ok    int
	}{
		{"one address", []string{"192.0.2.1:1"}, 2},
		{"two addresses", []string{"192.0.2.1:1", "192.0.2.2:1"}, 4},
		{"a network of IPv6", []string{"[2001:db8::1]:1", "[2001:db8::2]:1"}, 2},
		{"two networks of IPv6", []string{"[2001:db8::1]:1", "[2001:db8:0:1::2]:1"}, 4},
		{"loopback", []string{"127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"}, 6},
		{"a proxy", []string{"10.0.0.1:1"}, 6},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := 0
			addr, l := serve(t, listen.Config{Connections: 100, PerAddress: 2, Trusted: func(a netip.Addr) bool { return a.IsPrivate() }}, func() net.Addr { n++; return tcp(tc.addrs[n%len(tc.addrs)]) }, func(http.ResponseWriter, *http.Request) {})
			ok := 0
			var conns []net.Conn
			for range 6 {
				c := dial(t, addr)
				conns = append(conns, c)
				switch got := ask(t, c); got {
				case 200:
					ok++
				case 503:
				default:
					t.Errorf("%d", got)
				}
			}
			if ok != tc.ok {
				t.Errorf("%d of 6 were let in, want %d", ok, tc.ok)
			}
			for _, c := range conns {
				_ = c.Close()
			}
			await(t, "the end of all", func() bool { return l.Open() == 0 })
			if got := ask(t, dial(t, addr)); got != 200 {
				t.Errorf("%d after all have gone", got)
			}
		})
	}
}

// TestHijacked counts an upgraded connection until it ends, and never closes it.
func TestHijacked(t *testing.T) {
	hijacked := make(chan struct{})
	now := &clock{now: time.Now()}
	addr, l := serve(t, listen.Config{Connections: 1, Now: now.Now}, nil, func(w http.ResponseWriter, r *http.Request) {
		c, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		close(hijacked)
		_, _ = brw.ReadString('\n')
	})
	c := dial(t, addr)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-hijacked
	now.move(time.Hour)
	await(t, "a refusal", func() bool { return ask(t, dial(t, addr)) == 503 })
	_, _ = io.WriteString(c, "bye\n")
	await(t, "its end", func() bool { return l.Open() == 0 })
}

// slowBody gives n bytes a read, each after a wait.
type slowBody struct {
	wait     time.Duration
	n, left  int
	deadline *time.Time
}

func (s *slowBody) Read(b []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	until := time.Now().Add(s.wait)
	if !s.deadline.IsZero() && s.deadline.Before(until) {
		time.Sleep(time.Until(*s.deadline))
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(s.wait)
	n := min(s.n, s.left, len(b))
	s.left -= n
	return n, nil
}

func (s *slowBody) Close() error { return nil }

// timed is a ResponseWriter with a read deadline.
type timed struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (w *timed) SetReadDeadline(t time.Time) error { w.deadline = t; return nil }

func TestRate(t *testing.T) {
	for _, tc := range []struct {
		name      string
		wait      time.Duration
		n, length int
		pause     time.Duration // of the reader, between two reads
		unbound   bool
		cut       bool
	}{
		{name: "fast", n: 4096, length: 1 << 20},
		{name: "nothing after a byte", wait: time.Hour, n: 1, length: 2, cut: true},
		{name: "a byte a second", wait: time.Second, n: 1, length: 1000, cut: true},
		{name: "slow and moving", wait: time.Second, n: 1100, length: 200_000},
		{name: "in bursts", wait: 25 * time.Second, n: 32 << 10, length: 200_000},
		{name: "short and slow", wait: time.Second, n: 1, length: 20},
		{name: "the provider is slow", n: 512, length: 100_000, pause: time.Minute},
		{name: "both ways", wait: time.Hour, n: 1, length: 10, unbound: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &timed{ResponseRecorder: httptest.NewRecorder()}
				r := httptest.NewRequest("POST", "/", nil)
				r.Body = &slowBody{tc.wait, tc.n, tc.length, &w.deadline}
				r, end := listen.Body(w, r, 1024)
				defer end()
				if tc.unbound {
					r.Body.(interface{ Unbound() }).Unbound()
				}
				got, err := 0, error(nil)
				buf := make([]byte, 64<<10)
				begin := time.Now()
				for err == nil {
					var n int
					n, err = r.Body.Read(buf)
					got += n
					time.Sleep(tc.pause)
				}
				if tc.cut {
					if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) > 31*time.Second {
						t.Errorf("%v after %v", err, time.Since(begin))
					}
					return
				}
				if err != io.EOF || got != tc.length || !w.deadline.IsZero() {
					t.Errorf("%d bytes of %d, %v, the deadline is %v", got, tc.length, err, w.deadline)
				}
			})
		})
	}
}

func TestForFiles(t *testing.T) {
	for _, tc := range []struct {
		limit              uint64
		wanted, conns, ups int
	}{
		{256, 0, 64, 32}, {1024, 0, 358, 180}, {1024, 100, 100, 696}, {1024, 5000, 358, 180}, {1 << 20, 0, 20_000, 1<<20 - 1024 - 40_000}, {1 << 62, 0, 20_000, 1<<24 - 1024 - 40_000}, {64, 0, 8, 4},
	} {
		got := listen.ForFiles(tc.limit, tc.wanted)
		if got.Connections != tc.conns || got.IdleUpstream != tc.ups {
			t.Errorf("ForFiles(%d, %d) = %+v, want %d and %d", tc.limit, tc.wanted, got, tc.conns, tc.ups)
		}
		if tc.limit >= 256 && 2*got.Connections+got.IdleUpstream+96 > int(min(tc.limit, 1<<24)) {
			t.Errorf("%d: %+v leave nothing", tc.limit, got)
		}
	}
	if _, err := listen.New(listen.Config{}); err == nil {
		t.Error("no Connections, no error")
	}
}

// TestUnreadBody has a handler answer without having read what the caller is
// still to send: the response still comes soon, and no connection waits
// forever.
func TestUnreadBody(t *testing.T) {
	for _, tc := range []struct {
		name, header string
		answer       int           // bytes
		within       time.Duration // at most
	}{
		{name: "a short body", header: "Content-Length: 100", answer: 10, within: 10 * time.Second},
		{name: "a short body and a long answer", header: "Content-Length: 100", answer: 64 << 10, within: 10 * time.Second},
		{name: "chunks", header: "Transfer-Encoding: chunked", answer: 10, within: 10 * time.Second},
		{name: "a long body", header: "Content-Length: 18000000", answer: 10, within: time.Second},
		{name: "a long body and a long answer", header: "Content-Length: 18000000", answer: 64 << 10, within: time.Second},
		{name: "a caller who asks first", header: "Content-Length: 100\r\nExpect: 100-continue", answer: 10, within: time.Second},
	} {
		for _, rate := range []int64{0, 1024} {
			t.Run(fmt.Sprintf("%s, rate %d", tc.name, rate), func(t *testing.T) {
				t.Parallel()
				addr, _ := serve(t, listen.Config{Connections: 2}, nil, func(w http.ResponseWriter, r *http.Request) {
					_, end := listen.Body(w, r, rate)
					defer end()
					w.WriteHeader(http.StatusUnauthorized)
					_, _ = w.Write(make([]byte, tc.answer))
				})
				c := dial(t, addr)
				begin := time.Now()
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n"+tc.header+"\r\n\r\n")
				res, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				n, _ := io.Copy(io.Discard, res.Body)
				if res.StatusCode != http.StatusUnauthorized || int(n) != tc.answer || time.Since(begin) > tc.within {
					t.Errorf("%d and %d bytes after %v", res.StatusCode, n, time.Since(begin))
				}
			})
		}
	}
}

// TestOwnTime has a handler set its own deadline for reading.
func TestOwnTime(t *testing.T) {
	failed := make(chan error, 1)
	addr, _ := serve(t, listen.Config{Connections: 2}, nil, func(w http.ResponseWriter, r *http.Request) {
		r, end := listen.Body(w, r, listen.HandlerDeadlines)
		defer end()
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err := io.ReadAll(r.Body)
		failed <- err
	})
	_, _ = io.WriteString(dial(t, addr), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nh")
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading ended with %v", err)
	}
}

// TestBodyLeavesNoDeadline has two requests on one connection, the second much
// later than the first may take.
func TestBodyLeavesNoDeadline(t *testing.T) {
	addr, _ := serve(t, listen.Config{Connections: 2}, nil, func(w http.ResponseWriter, r *http.Request) {
		r, end := listen.Body(w, r, 1024)
		defer end()
		_, _ = io.Copy(w, r.Body)
	})
	c := dial(t, addr)
	in := bufio.NewReader(c)
	for _, wait := range []time.Duration{0, 2500 * time.Millisecond} {
		time.Sleep(wait)
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != "hi" || err != nil {
			t.Fatalf("%q, %v", b, err)
		}
	}
}
