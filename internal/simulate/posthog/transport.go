package posthog

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"syscall"
)

// Transport calls the server without a socket: the handler runs in the caller's
// goroutine. Reset connections become errors, and a truncated response becomes
// io.ErrUnexpectedEOF, as over TCP. It works in a synctest bubble, where real
// sockets would keep the fake clock from advancing.
func (s *Server) Transport() http.RoundTripper { return transport{s} }

type transport struct{ s *Server }

func (t transport) RoundTrip(r *http.Request) (_ *http.Response, err error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	defer r.Body.Close()
	w := &recorder{header: make(http.Header), status: http.StatusOK}
	defer func() {
		switch v := recover(); {
		case v == nil:
		case v != http.ErrAbortHandler:
			panic(v)
		default:
			err = syscall.ECONNRESET
		}
	}()
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	func() {
		defer func() {
			if v := recover(); v != nil && !(v == http.ErrAbortHandler && w.wrote) {
				panic(v)
			}
		}()
		t.s.ServeHTTP(w, in)
	}()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	res := &http.Response{
		StatusCode: w.status, Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, ContentLength: int64(w.body.Len()), Request: r,
	}
	var body io.Reader = &w.body
	if want, err := strconv.Atoi(w.header.Get("Content-Length")); err == nil && want > w.body.Len() {
		res.ContentLength = int64(want)
		body = io.MultiReader(body, cut{})
	}
	res.Body = io.NopCloser(body)
	return res, nil
}

type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// recorder is an in-memory ResponseWriter.
type recorder struct {
	header http.Header
	body   bytes.Buffer
	status int
	wrote  bool
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if !w.wrote {
		w.wrote, w.status = true, status
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

func (w *recorder) FlushError() error { return errors.ErrUnsupported }
