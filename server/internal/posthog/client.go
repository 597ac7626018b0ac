package posthog

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

// newHTTPClient returns a client with its own transport. It does not follow
// redirects: PostHog's correct hosts send none, and one would send the key
// elsewhere or turn a POST into a GET. It ignores proxies of the environment:
// through one, the guard could not check a request's destination.
func newHTTPClient(c ClientConfig, insecure bool) *http.Client {
	rt := c.Transport
	if rt == nil {
		g := guard{insecure: insecure, allow: c.AllowHosts, ca: c.CA}
		t := &http.Transport{
			DialContext:           g.dial,
			TLSClientConfig:       tlsConfig(),
			TLSHandshakeTimeout:   handshakeTimeout,
			ResponseHeaderTimeout: c.Timeout,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConns:          100,
			MaxIdleConnsPerHost:   16,
			ForceAttemptHTTP2:     true,
			DisableCompression:    true, // answers are small
		}
		if c.CA != nil {
			t.DialTLSContext = g.dialTLS
		}
		rt = t
	}
	return &http.Client{
		Transport:     rt,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

const handshakeTimeout = 10 * time.Second

func tlsConfig() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} }

const maxAnswer = 64 << 10 // bytes of an answer to a delivery that are read

// answer is PostHog's.
type answer struct {
	status     int
	body       []byte // the beginning of it
	header     http.Header
	retryAfter time.Duration
}

var gzipWriters = sync.Pool{New: func() any { w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed); return w }}

// postBatch sends encoded events to a capture route. Timestamps were corrected at
// intake, so there is no sent_at. historical marks an import of old data.
func postBatch(ctx context.Context, h *http.Client, host, path, key, agent string, events [][]byte, historical bool, now time.Time) (answer, error) {
	var buf bytes.Buffer
	z := gzipWriters.Get().(*gzip.Writer)
	z.Reset(&buf)
	// Writes to a bytes.Buffer do not fail.
	name, _ := json.Marshal(key)
	_, _ = z.Write(slices.Concat([]byte(`{"api_key":`), name, []byte(`,"batch":[`)))
	for i, e := range events {
		if i > 0 {
			_, _ = z.Write([]byte{','})
		}
		_, _ = z.Write(e)
	}
	_, _ = io.WriteString(z, `]`)
	if historical {
		_, _ = io.WriteString(z, `,"historical_migration":true`)
	}
	_, _ = io.WriteString(z, `}`)
	_ = z.Close()
	gzipWriters.Put(z)
	// A bytes.Reader can be read again, so that the transport gets over a kept
	// connection that the other side has closed.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, host+path+"?compression=gzip", bytes.NewReader(buf.Bytes()))
	if err != nil {
		return answer{}, fmt.Errorf("make request: %w", withoutURL(err))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Content-Encoding", "gzip")
	req.Header.Set("User-Agent", agent)
	return do(h, req, maxAnswer, now)
}

// do sends a request and reads the beginning of the answer. A 2xx with a
// truncated body is a 2xx.
func do(h *http.Client, req *http.Request, limit int64, now time.Time) (answer, error) {
	res, err := h.Do(req)
	if err != nil {
		return answer{}, withoutURL(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, limit))
	return answer{status: res.StatusCode, body: body, header: res.Header, retryAfter: parseRetryAfter(res.Header.Get("Retry-After"), now)}, nil
}

const maxRetryAfter = time.Hour // a longer one is a mistake of someone's

// parseRetryAfter reads seconds or an HTTP date.
func parseRetryAfter(s string, now time.Time) time.Duration {
	s = strings.TrimSpace(s)
	var d time.Duration
	if n, err := strconv.ParseFloat(s, 64); err == nil && n > 0 {
		d = time.Duration(min(n, maxRetryAfter.Seconds()) * float64(time.Second))
	} else if t, err := http.ParseTime(s); err == nil {
		d = t.Sub(now)
	}
	return max(0, min(d, maxRetryAfter))
}

// trouble is what keeps a request from an answer, in words.
type trouble struct{ code, message, hint string }

// explain describes why a request got no answer, without quoting the error,
// which is only logged.
func explain(err error, host string) trouble {
	name := hostName(host)
	var (
		off     *blockedError
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		unknown x509.UnknownAuthorityError
		wrong   x509.HostnameError
		expired x509.CertificateInvalidError
		op      *net.OpError
	)
	switch {
	case errors.As(err, &off):
		return trouble{"host_blocked", fmt.Sprintf("%s leads to the address %v, which is not public, and which posthog_allow_hosts does not list", name, off.addr), project.AllowHint}
	case errors.As(err, &dns) && dns.IsNotFound:
		return trouble{"dns", fmt.Sprintf("the name %s was not found (DNS)", name), "check the spelling of the host: https://us.i.posthog.com or https://eu.i.posthog.com for PostHog's cloud"}
	case errors.As(err, &dns):
		return trouble{"dns", fmt.Sprintf("the name %s could not be resolved (DNS)", name), "check this machine's name server"}
	case errors.As(err, &wrong):
		return trouble{"tls", fmt.Sprintf("the certificate of %s is for another name", name), "check the spelling of the host, or renew the certificate"}
	case errors.As(err, &expired):
		return trouble{"tls", fmt.Sprintf("the certificate of %s is not valid, or not any more", name), "renew it; check this machine's clock"}
	case errors.As(err, &unknown):
		return trouble{"tls", fmt.Sprintf("the certificate of %s is not signed by an authority that this machine trusts", name), "for a self-hosted PostHog listed in posthog_allow_hosts, set posthog_ca to the authority's certificate; otherwise install it on this machine (SSL_CERT_FILE), or use a public one"}
	case errors.As(err, &cert), errors.As(err, &alert):
		return trouble{"tls", fmt.Sprintf("no secure connection to %s (TLS)", name), "hedgerow needs TLS 1.2 or newer and a certificate that this machine trusts"}
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return trouble{"tls", fmt.Sprintf("%s does not speak TLS on this port", name), "check the port of the host"}
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return trouble{"timeout", fmt.Sprintf("%s did not answer in time", name), "check that this machine can reach it: firewall, proxy"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return trouble{"unreachable", fmt.Sprintf("%s refuses connections", name), "check host and port, and that PostHog is running"}
	case errors.As(err, &op) && op.Op == "dial":
		return trouble{"unreachable", fmt.Sprintf("%s cannot be reached", name), "check that this machine can reach it: network, firewall"}
	}
	return trouble{"unreachable", fmt.Sprintf("the connection to %s broke", name), "check that this machine can reach it: network, firewall, proxy"}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

func hostName(host string) string {
	if u, err := url.Parse(host); err == nil && u.Host != "" {
		return u.Host
	}
	return "PostHog"
}

// said are PostHog's own error texts that may be quoted: they contain neither
// events nor keys. All other text is omitted.
var said = []string{
	"event submitted without an event name", "event submitted without a distinct_id", "event submitted without an api_key",
	"events submitted with inconsistent api_key values", "API key is not valid", "maximum event size exceeded", "no event submitted",
	"request is missing events", "UUID parsing failed", "invalid unicode", "bad timestamp", "bad sent_at", "failed to decode request",
	"failed to parse request", "request body read stalled", "billing limit reached", "rate limited", "transient error",
}

// quote returns the known texts in a rejection, as ": text", or "".
func quote(body []byte) string {
	lower := bytes.ToLower(body[:min(len(body), 2048)])
	for _, s := range said {
		if bytes.Contains(lower, bytes.ToLower([]byte(s))) {
			return ": " + s
		}
	}
	return ""
}
