package price

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// MaxList bounds the size in bytes of a list of prices. OpenRouter's has about
// one megabyte.
const MaxList = 32 << 20

// Fetch opens a list of prices at an http or https address, or in a file, given
// as a path or as a file:// address. A nil client is one with a time limit of 30
// seconds. The caller closes the reader. Reading more than [MaxList] bytes from it
// is an error.
//
// Errors are [*event.Error] that say what to do: no such file, no answer, a status
// other than 200, too large. They name the source as [SourceName] does.
func Fetch(ctx context.Context, client *http.Client, from string) (io.ReadCloser, error) {
	u, err := url.Parse(from)
	switch {
	case from == "":
		return nil, event.Invalid("no list of prices is named", "give an address such as https://openrouter.ai/api/v1/models, or a file")
	case err == nil && (u.Scheme == "http" || u.Scheme == "https"):
		list, err := fetchURL(ctx, client, u, "")
		if err != nil {
			return nil, err
		}
		return list, nil
	case err == nil && u.Scheme == "file":
		if u.Host != "" && u.Host != "localhost" {
			return nil, event.Invalid(fmt.Sprintf("%q names a file on another machine", from), "a file:// address has three slashes: file:///path/to/models.json")
		}
		return openList(u.Path)
	case strings.Contains(from, "://"):
		return nil, event.Invalid(fmt.Sprintf("prices cannot be read from %q", SourceName(from)), "give an http or https address, or a file")
	}
	return openList(from)
}

// ErrUnchanged is the answer to a request for a list that is as it was.
var ErrUnchanged = errors.New("the list of prices is unchanged")

// List is a list of prices that arrives.
type List struct {
	io.ReadCloser
	ETag string // by which [FetchNew] asks for a newer one
}

// FetchNew is [Fetch] for an http or https address, of a list that is not the one that
// came with etag; "" takes any. Where it still is that one, the error is ErrUnchanged.
func FetchNew(ctx context.Context, client *http.Client, address, etag string) (*List, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, event.Invalid(fmt.Sprintf("prices cannot be refreshed from %q", SourceName(address)), "give an http or https address such as "+GenAIFeed)
	}
	return fetchURL(ctx, client, u, etag)
}

// SourceName is from as it may be shown and stored: without the user, password
// and query of an address, any of which can be a secret.
func SourceName(from string) string {
	u, err := url.Parse(from)
	if err != nil {
		if scheme, _, ok := strings.Cut(from, "://"); ok {
			return scheme + "://…"
		}
		return from
	}
	if u.Host == "" {
		return from
	}
	u.User, u.RawQuery, u.Fragment, u.ForceQuery = nil, "", "", false
	return u.String()
}

func fetchURL(ctx context.Context, client *http.Client, u *url.URL, etag string) (*List, error) {
	if client == nil {
		client = &http.Client{Timeout: 30 * time.Second}
	}
	name := SourceName(u.String())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, event.Invalid(fmt.Sprintf("prices cannot be read from %q", name), "give an http or https address, or a file")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "hedgerow")
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fetchError(name, err)
	}
	if resp.StatusCode == http.StatusNotModified && etag != "" {
		resp.Body.Close()
		return nil, ErrUnchanged
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		hint := "check the address, or try again later"
		switch resp.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			hint = "the list needs no key at OpenRouter; check the address, or download the list and give the file"
		case http.StatusNotFound, http.StatusGone:
			hint = "check the address; OpenRouter's is https://openrouter.ai/api/v1/models"
		}
		return nil, event.NewError(event.CodeUpstream, fmt.Sprintf("%s answered %s", name, resp.Status), hint, nil)
	}
	if resp.ContentLength > MaxList {
		resp.Body.Close()
		return nil, tooLarge(name)
	}
	body := &boundedList{r: resp.Body, name: name, left: MaxList, fail: func(err error) error { return fetchError(name, err) }}
	return &List{body, resp.Header.Get("ETag")}, nil
}

// fetchError words what kept a list from arriving.
func fetchError(name string, err error) error {
	// The URL in net/http's own message may hold a key.
	if e := (*url.Error)(nil); errors.As(err, &e) {
		if e.Timeout() && !errors.Is(err, context.Canceled) {
			return event.NewError(event.CodeTimeout, name+" took too long to answer", "try again, or download the list and give the file", e.Err)
		}
		err = e.Err
	}
	switch {
	case errors.Is(err, context.Canceled):
		return event.NewError(event.CodeCanceled, "reading the prices was broken off", "", err)
	case os.IsTimeout(err), errors.Is(err, context.DeadlineExceeded):
		return event.NewError(event.CodeTimeout, name+" took too long to answer", "try again, or download the list and give the file", err)
	}
	return event.NewError(event.CodeUpstream, "the prices cannot be read from "+name, "check the address and the network, or download the list and give the file", err)
}

func openList(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err == nil {
		var info fs.FileInfo
		if info, err = f.Stat(); err == nil && info.IsDir() {
			f.Close()
			return nil, event.Invalid(path+" is a folder", "give the file that holds the list of prices")
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, event.NewError(event.CodeNotFound, "file "+path+" not found", "use a URL that begins with https://, or an existing file", err)
	case err != nil:
		return nil, event.NewError(event.CodeInvalid, "the file "+path+" cannot be read", "check the file's permissions", err)
	}
	return &boundedList{r: f, name: path, left: MaxList, fail: func(err error) error {
		return event.NewError(event.CodeInvalid, "the file "+path+" cannot be read", "check the disk and the file's permissions", err)
	}}, nil
}

func tooLarge(name string) error {
	return event.NewError(event.CodeTooLarge, fmt.Sprintf("what %s holds is larger than %d MB", name, MaxList>>20), "that is no list of prices; check the address", nil)
}

// boundedList reads at most left bytes, and words the errors of reading.
type boundedList struct {
	r    io.ReadCloser
	name string
	left int64
	fail func(error) error
}

func (b *boundedList) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	switch {
	case b.left < 0:
		b.left = 0
		return 0, tooLarge(b.name)
	case err != nil && err != io.EOF:
		err = b.fail(err)
	}
	return n, err
}

func (b *boundedList) Close() error { return b.r.Close() }
