package gateway_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// TestSlowBody has bodies that stop arriving: the caller gets an error, whether
// the body is buffered or streamed, and its memory is released.
func TestSlowBody(t *testing.T) {
	sim := providers(t)
	r := start(t, at(sim.OpenAIURL()))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Error(err)
		}
		r.ServeHTTP(w, req)
	}))
	t.Cleanup(srv.Close)
	for i, kind := range []string{"application/json", "audio/wav"} {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: "+kind+"\r\nContent-Length: 30000000\r\n\r\n{")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 408 || !resp.Close || !strings.Contains(string(b), "too slowly") {
			t.Errorf("%s: %d %v %s", kind, resp.StatusCode, resp.Header, b)
		}
		if e := r.sink.await(t, i+1)[i]; e.ErrorType != event.ErrTypeClientGone || !e.IsError {
			t.Errorf("%s: %+v", kind, e)
		}
	}
	r.quiet(t)
	if n := r.metric(t, "hedgerow_gateway_request_bytes"); n != 0 {
		t.Errorf("%v bytes were not released", n)
	}
}
