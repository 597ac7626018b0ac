package gateway

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/internal/provider"
)

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

const (
	typeEventStream = "text/event-stream"
	headOfBinary    = 4 << 10 // bytes recorded of audio and images
)

// copy copies the response: status code, headers, body and trailers.
func (x *exchange) copy(res *http.Response) {
	contentType, _, _ := strings.Cut(first(res.Header["Content-Type"]), ";")
	contentType = strings.ToLower(strings.TrimSpace(contentType))
	events := contentType == typeEventStream
	var strip *provider.UsageStripper
	if events && x.plan.AddsUsage && res.StatusCode == http.StatusOK && !encoded(first(res.Header["Content-Encoding"])) {
		strip = new(provider.UsageStripper)
	}

	h := x.w.Header()
	for k, v := range res.Header {
		if !hopByHop(k) {
			h[k] = v
		}
	}
	for _, line := range res.Header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	keepOrigin(h)
	noPage(h)
	// net/http would add these headers.
	for _, k := range [...]string{"Content-Type", "Date"} {
		if _, ok := res.Header[k]; !ok {
			h[k] = nil
		}
	}
	if strip != nil {
		delete(h, "Content-Length") // the original length
	}
	announced := len(res.Trailer)
	for k := range res.Trailer {
		h["Trailer"] = append(h["Trailer"], k)
	}
	if x.debug {
		x.addHeaders(h)
	}
	t := time.Now()
	x.w.WriteHeader(res.StatusCode)
	var flush *http.ResponseController
	if events || res.ContentLength == -1 {
		// A stream's first token may take long: flush the headers at once, and
		// then after every read.
		flush = http.NewResponseController(x.w)
		_ = flush.Flush()
	}
	x.wait(t)

	x.recorder = recorder{budget: &x.g.responses, limit: x.g.limits.ResponseHead, tailLen: x.g.limits.ResponseTail}
	if binary(contentType) {
		x.recorder.limit, x.recorder.tailLen = headOfBinary, 0
	}
	x.recorder.begin(res.ContentLength)

	if id, ok := x.fetchesResults(); ok && res.StatusCode == http.StatusOK && !encoded(first(res.Header["Content-Encoding"])) {
		x.lines = newBatchLines(x, id)
		defer x.lines.finish()
	}
	upErr, callerErr := x.copyBody(res.Body, flush, strip)
	// Close fills in the trailers. Closing early cancels the call to the
	// provider.
	_ = res.Body.Close()
	if upErr != nil || callerErr != nil {
		if upErr != nil {
			_ = http.NewResponseController(x.w).Flush() // data that arrived before the failure
		}
		x.broke(errors.Join(upErr, callerErr), callerErr != nil)
		panic(http.ErrAbortHandler)
	}
	if len(res.Trailer) == 0 {
		return
	}
	_ = http.NewResponseController(x.w).Flush() // otherwise net/http would add a Content-Length to a short body and drop its trailers
	for k, v := range res.Trailer {
		if announced != len(res.Trailer) {
			k = http.TrailerPrefix + k
		}
		h[k] = v
	}
	keepOrigin(h)
}

// binary reports whether a response's content is never recorded.
func binary(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, "/")
	return kind == "audio" || kind == "image" || kind == "video" || contentType == "application/octet-stream"
}

// copyBody copies the body, read by read. It returns which side failed: reading
// from the provider, or writing to the caller.
func (x *exchange) copyBody(body io.Reader, flush *http.ResponseController, strip *provider.UsageStripper) (upErr, callerErr error) {
	var spare *[32 << 10]byte
	defer func() {
		if spare != nil {
			buffers.Put(spare)
		}
	}()
	t := time.Now()
	for {
		buf := x.recorder.room()
		kept := buf != nil
		if !kept {
			if spare == nil {
				spare = buffers.Get().(*[32 << 10]byte)
			}
			buf = spare[:]
		}
		n, err := body.Read(buf)
		t = x.wait(t)
		out := buf[:n]
		if n > 0 {
			if kept {
				x.recorder.commit(n)
			} else {
				x.recorder.write(out)
			}
			x.total += int64(n)
			x.rec.mark(x.total, t.Sub(x.start))
			if x.lines != nil {
				x.lines.write(out)
			}
		}
		if strip != nil {
			out = strip.Write(out)
			if err != nil {
				out = append(out, strip.Flush()...)
			}
		}
		if len(out) > 0 {
			w := time.Now()
			if _, werr := x.w.Write(out); werr != nil {
				return nil, werr
			}
			if flush != nil && err == nil {
				if werr := flush.Flush(); werr != nil {
					return nil, werr
				}
			}
			t = x.wait(w)
		}
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			return err, nil
		}
	}
}

func first(v []string) string {
	if len(v) == 0 {
		return ""
	}
	return v[0]
}
