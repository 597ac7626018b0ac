package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// upgrade connects caller and provider after 101 Switching Protocols (OpenAI's
// realtime API over WebSocket). Traffic is counted, not parsed.
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
	// http.Server does not close hijacked connections.
	defer context.AfterFunc(x.g.closing, func() { conn.Close(); back.Close() })()

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
	t := time.Now()
	type end struct {
		n        int64
		err      error
		upstream bool
	}
	ends := make(chan end, 2)
	go func() {
		n, err := io.Copy(back, brw.Reader)
		ends <- end{n, err, false}
		back.Close()
	}()
	go func() {
		n, err := io.Copy(conn, back)
		ends <- end{n, err, true}
		conn.Close()
	}()
	first, second := <-ends, <-ends
	x.wait(t) // all of it was waiting
	if !first.upstream {
		x.sent, x.total = first.n, second.n
	} else {
		x.sent, x.total = second.n, first.n
	}
	if first.err != nil && x.g.closing.Err() == nil {
		x.broke(first.err, !first.upstream)
	}
}
