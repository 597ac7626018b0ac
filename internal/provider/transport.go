package provider

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// TransportCode returns the code of a failed connection, in the terms of
// Node.js and libuv, so that errors of servers and applications can be charted
// together: ECONNREFUSED, ECONNRESET, EPIPE, EHOSTUNREACH, ENETUNREACH,
// ENOTFOUND, ETIMEDOUT, ERR_TLS. It is "" for other errors.
func TransportCode(err error) string {
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var certificate *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return "ECONNREFUSED"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "ECONNRESET"
	case errors.Is(err, syscall.EPIPE):
		return "EPIPE"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "EHOSTUNREACH"
	case errors.Is(err, syscall.ENETUNREACH):
		return "ENETUNREACH"
	case errors.As(err, &dns) && !dns.IsTimeout:
		return "ENOTFOUND"
	case errors.As(err, &record), errors.As(err, &alert), errors.As(err, &certificate), errors.As(err, &unknown):
		return "ERR_TLS"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "ETIMEDOUT"
	}
	return ""
}
