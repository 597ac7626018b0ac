package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/internal/provider"
)

const (
	// closeLinger is how long, after one end of an upgraded connection has
	// closed, the other may still read and respond.
	closeLinger = 2 * time.Second
	// closeGrace is how long a response in progress on a WebSocket may continue
	// when the server stops.
	closeGrace = 5 * time.Second
)

// readsSocket reports whether the call requests a WebSocket whose messages are
// parsed.
func (x *exchange) readsSocket() bool {
	return strings.EqualFold(upgradeType(x.in.Header), "websocket") && provider.SocketOperation(x.route.below) != ""
}

// upgrade connects caller and provider after 101 Switching Protocols. Bytes are
// forwarded unchanged. The messages of a known WebSocket API are parsed from a
// copy, after they have been forwarded.
func (x *exchange) upgrade(res *http.Response) {
	back, ok := res.Body.(io.ReadWriteCloser)
	if !ok {
		x.fail(fmt.Errorf("switch protocols: response body %T is not writable", res.Body))
		return
	}
	defer back.Close()
	conn, brw, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.fail(fmt.Errorf("switch protocols: %w", err))
		return
	}
	defer conn.Close()

	header := res.Header.Clone()
	keepOrigin(header)
	if x.debug {
		x.addHeaders(header)
	}
	res.Header, res.Body = header, nil
	if err = res.Write(brw); err == nil {
		err = brw.Flush()
	}
	if err != nil {
		x.broke(err, true)
		return
	}
	x.upgraded = x.g.enterUpgrade()
	t := time.Now()
	u := &upgraded{conn: conn, caller: brw.Reader, provider: back}
	if x.readsSocket() {
		u.socket = newSocket(x, u.stop)
	}
	// http.Server does not close hijacked connections.
	defer context.AfterFunc(x.g.closing, u.leave)()
	u.run()
	x.wait(t) // all of it was waiting
	x.sent, x.total = u.up.n, u.down.n
	if u.socket != nil {
		u.socket.end(x.g.closing.Err() != nil)
	}
	first, byCaller := &u.up, u.up.failed == reading
	if u.downFirst {
		first, byCaller = &u.down, u.down.failed == writing
	}
	if first.err != nil && x.g.closing.Err() == nil {
		x.broke(first.err, byCaller)
	}
}

// upgraded is a connection after 101 Switching Protocols.
type upgraded struct {
	conn     net.Conn
	caller   io.Reader // of conn
	provider io.ReadWriteCloser
	socket   *socket // nil: messages are not parsed

	up, down  direction
	downFirst bool // the provider's side ended first

	mu      sync.Mutex
	leaving bool
}

// direction is the traffic in one direction.
type direction struct {
	n      int64
	failed side
	err    error
}

// run copies in both directions until both have ended.
func (u *upgraded) run() {
	none := func([]byte) {}
	before, after, fromProvider := none, none, none
	if s := u.socket; s != nil {
		before, after, fromProvider = s.beforeCaller, s.afterCaller, s.fromProvider
	}
	upEnded, drained := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(drained)
		u.up.pass(u.provider, u.caller, before, after)
		close(upEnded)
		u.callerEnded()
		if u.up.failed == writing {
			// Closing with unread bytes would discard what was sent to the
			// caller last.
			_, _ = io.Copy(io.Discard, u.caller)
		}
	}()
	u.down.pass(u.conn, u.provider, none, fromProvider)
	select {
	case <-upEnded:
	default:
		u.downFirst = true
	}
	if u.socket != nil {
		if u.down.failed == writing {
			u.socket.callerEnded()
		}
		u.socket.providerEnded()
		if u.isLeaving() && u.socket.mayLeave(false) {
			_, _ = u.conn.Write(goingAway(false))
		}
	}
	closeWrite(u.conn)
	defer time.AfterFunc(closeLinger, func() { u.conn.Close() }).Stop()
	u.provider.Close()
	<-drained
}

// callerEnded closes the provider's side: immediately or, if the provider may
// still respond, after a while.
func (u *upgraded) callerEnded() {
	answers := false
	switch {
	case u.up.failed == writing:
		answers = true // data that it sent before it closed may still arrive
	case u.socket == nil:
	case u.isLeaving():
		if answers = u.socket.mayLeave(true); answers {
			_, _ = u.provider.Write(goingAway(true))
			closeWrite(u.provider)
		}
	default:
		if answers = u.socket.callerEnded(); answers {
			closeWrite(u.provider)
		}
	}
	if !answers {
		u.provider.Close()
		return
	}
	time.AfterFunc(closeLinger, func() { u.provider.Close() })
}

func (u *upgraded) isLeaving() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.leaving
}

// leave ends the connection because the server stops: immediately or, if a
// response is in progress, after it.
func (u *upgraded) leave() {
	if u.socket == nil || !u.socket.leave() {
		u.stop()
		return
	}
	time.AfterFunc(closeGrace, u.stop)
}

// stop ends the connection between two frames, if that is possible within a
// second.
func (u *upgraded) stop() {
	u.mu.Lock()
	again := u.leaving
	u.leaving = true
	u.mu.Unlock()
	switch {
	case again:
		return
	case u.socket == nil:
		u.conn.Close()
		u.provider.Close()
		return
	}
	// This ends the loop that reads from the caller, which ends the other.
	_ = u.conn.SetReadDeadline(time.Now())
	time.AfterFunc(time.Second, func() { u.provider.Close(); u.conn.Close() })
}

func closeWrite(c any) {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
}

// side is the end of a copy that failed.
type side int

const (
	neither side = iota
	reading
	writing
)

// pass copies src to dst until one of them ends. before and after get the
// forwarded bytes.
func (d *direction) pass(dst io.Writer, src io.Reader, before, after func([]byte)) {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			d.n += int64(n)
			before(buf[:n])
			if _, werr := dst.Write(buf[:n]); werr != nil {
				d.failed, d.err = writing, werr
				return
			}
			after(buf[:n])
		}
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			d.failed, d.err = reading, err
			return
		}
	}
}
