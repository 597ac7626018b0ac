package provider

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// The opcodes of WebSocket frames (RFC 6455 section 5.2).
const (
	FrameContinuation = 0
	FrameText         = 1
	FrameBinary       = 2
	FrameClose        = 8
	FramePing         = 9
	FramePong         = 10
)

// Conn is one end of a WebSocket. Several goroutines may write frames.
type Conn struct {
	// Answer is the provider's response to the handshake, at the caller's end.
	Answer *http.Response

	conn   net.Conn
	r      *bufio.Reader
	client bool
	mu     sync.Mutex
}

// Frame is one received frame.
type Frame struct {
	Final   bool
	Opcode  byte
	Payload []byte
}

// Dial opens a WebSocket. The URL is http. A response other than 101 is an
// error with its status.
func Dial(ctx context.Context, at string, header http.Header) (*Conn, error) {
	u, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	key := make([]byte, 16)
	_, _ = rand.Read(key)
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: header.Clone()}
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", base64.StdEncoding.EncodeToString(key))
	if err := req.Write(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	c := &Conn{conn: conn, r: bufio.NewReader(conn), client: true}
	if c.Answer, err = http.ReadResponse(c.r, req); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if c.Answer.StatusCode != http.StatusSwitchingProtocols {
		b, _ := io.ReadAll(io.LimitReader(c.Answer.Body, 1<<10))
		_ = conn.Close()
		return nil, fmt.Errorf("handshake: status %s: %s", c.Answer.Status, b)
	}
	return c, nil
}

// Accept accepts a handshake.
func Accept(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 section 1.3
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"
	if offered, _, _ := strings.Cut(r.Header.Get("Sec-Websocket-Protocol"), ","); offered != "" {
		answer += "Sec-WebSocket-Protocol: " + strings.TrimSpace(offered) + "\r\n"
	}
	if _, err := io.WriteString(conn, answer+"\r\n"); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &Conn{conn: conn, r: rw.Reader}, nil
}

// Read returns the next frame.
func (c *Conn) Read() (Frame, error) {
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return Frame{}, err
	}
	n := uint64(head[1] & 0x7f)
	if n >= 126 {
		size := make([]byte, 2+6*(n-126))
		if _, err := io.ReadFull(c.r, size); err != nil {
			return Frame{}, err
		}
		n = binary.BigEndian.Uint64(append(make([]byte, 8-len(size)), size...))
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		if _, err := io.ReadFull(c.r, mask[:]); err != nil {
			return Frame{}, err
		}
	}
	if n > 1<<28 {
		return Frame{}, fmt.Errorf("a frame of %d bytes", n)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return Frame{}, err
	}
	for i := range payload {
		payload[i] ^= mask[i&3]
	}
	return Frame{head[0]&0x80 != 0, head[0] & 0x0f, payload}, nil
}

// Message returns the next text or binary message, and responds to pings. After
// a close frame its error is a [Closed].
func (c *Conn) Message() ([]byte, error) {
	var whole []byte
	for {
		f, err := c.Read()
		if err != nil {
			return nil, err
		}
		switch f.Opcode {
		case FramePing:
			if err := c.Write(Frame{true, FramePong, f.Payload}); err != nil {
				return nil, err
			}
		case FramePong:
		case FrameClose:
			closed := Closed{Code: 1005}
			if len(f.Payload) >= 2 {
				closed = Closed{int(binary.BigEndian.Uint16(f.Payload)), string(f.Payload[2:])}
			}
			return nil, closed
		default:
			whole = append(whole, f.Payload...)
			if f.Final {
				return whole, nil
			}
		}
	}
}

// Closed is how the other end closed a WebSocket.
type Closed struct {
	Code   int
	Reason string
}

func (c Closed) Error() string { return fmt.Sprintf("closed: %d %s", c.Code, c.Reason) }

// Write writes one frame.
func (c *Conn) Write(f Frame) error {
	var b bytes.Buffer
	first := f.Opcode
	if f.Final {
		first |= 0x80
	}
	b.WriteByte(first)
	masked := byte(0)
	if c.client {
		masked = 0x80
	}
	switch n := len(f.Payload); {
	case n < 126:
		b.WriteByte(masked | byte(n))
	case n < 1<<16:
		b.WriteByte(masked | 126)
		_ = binary.Write(&b, binary.BigEndian, uint16(n))
	default:
		b.WriteByte(masked | 127)
		_ = binary.Write(&b, binary.BigEndian, uint64(n))
	}
	from := 0
	if c.client {
		mask := make([]byte, 4)
		_, _ = rand.Read(mask)
		b.Write(mask)
		from = b.Len()
		b.Write(f.Payload)
		for i := from; i < b.Len(); i++ {
			b.Bytes()[i] ^= mask[(i-from)&3]
		}
	} else {
		b.Write(f.Payload)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.conn.Write(b.Bytes())
	return err
}

// Text writes a text message in one frame.
func (c *Conn) Text(message string) error { return c.Write(Frame{true, FrameText, []byte(message)}) }

// Bye writes a close frame.
func (c *Conn) Bye(code int, reason string) error {
	return c.Write(Frame{true, FrameClose, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)})
}

// SetDeadline limits later reads and writes.
func (c *Conn) SetDeadline(t time.Time) error { return c.conn.SetDeadline(t) }

// Close closes the connection without a close frame.
func (c *Conn) Close() error { return c.conn.Close() }
