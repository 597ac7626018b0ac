package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/atomicfile"
	"github.com/hedgerow/hedgerow/server/internal/config"
)

// certificate is the listeners' certificate. Its files are read again when they have
// changed, so that a renewed certificate needs no restart; that for loopback
// addresses is renewed here, a month before it ends.
type certificate struct {
	cert, key string           // paths
	loopback  bool             // the one of loopbackCert
	now       func() time.Time // nil: time.Now
	log       *slog.Logger

	mu      sync.Mutex
	checked time.Time
	stamp   [2]time.Time // when the files had last changed
	loaded  *tls.Certificate
}

// certEvery is how often the files are looked at.
const certEvery = 10 * time.Second

// openTLS reads the certificate, and makes the one for loopback addresses if it is
// missing or ends within a month. Without tls_cert it does nothing.
func (a *App) openTLS(context.Context) error {
	if !a.cfg.TLS() {
		return nil
	}
	c := &certificate{cert: a.cfg.TLSCert, key: a.cfg.TLSKey}
	if c.cert == config.LoopbackCert {
		c.cert, c.key = a.cfg.Path("tls", "loopback.pem"), a.cfg.Path("tls", "loopback.key")
		c.loopback, c.log = true, a.log
		if err := loopbackCert(c.cert, c.key, time.Now()); err != nil {
			return config.Exit(config.ExitData, event.NewError(event.CodeUnavailable, "the certificate for loopback addresses cannot be created", "check that the data folder can be written to", err))
		}
		a.log.Info("TLS uses a certificate created on this machine: clients must trust it", "file", c.cert)
	}
	if _, err := c.get(nil); err != nil {
		return config.Invalid("tls_cert: the certificate cannot be read", "tls_cert and tls_key are PEM files that belong together; the certificate's chain is in tls_cert", err)
	}
	// HTTP/1.1 only: the limits on connections and uploads are those of one request at a time.
	a.tls = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get, NextProtos: []string{"http/1.1"}}
	return nil
}

// get returns the certificate. If changed files cannot be read, for example
// because only one of them has been replaced yet, it keeps using the last one.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.now != nil {
		now = c.now()
	}
	if c.loaded != nil && now.Sub(c.checked) < certEvery {
		return c.loaded, nil
	}
	c.checked = now
	if c.loopback {
		if err := loopbackCert(c.cert, c.key, now); err != nil && c.log != nil { // the one in use lasts for another month
			c.log.Warn("the certificate for loopback addresses cannot be renewed", "err", err)
		}
	}
	var stamp [2]time.Time
	for i, path := range []string{c.cert, c.key} {
		if info, err := os.Stat(path); err == nil {
			stamp[i] = info.ModTime()
		}
	}
	if c.loaded != nil && stamp == c.stamp {
		return c.loaded, nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		if c.loaded != nil {
			return c.loaded, nil
		}
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	c.loaded, c.stamp = &pair, stamp
	return c.loaded, nil
}

// loopbackCert makes a certificate for localhost, 127.0.0.1 and ::1 that signs itself,
// valid for a year, unless the files hold one that is valid for another month.
func loopbackCert(certPath, keyPath string, now time.Time) error {
	if pair, err := tls.LoadX509KeyPair(certPath, keyPath); err == nil && pair.Leaf != nil && now.AddDate(0, 1, 0).Before(pair.Leaf.NotAfter) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "hedgerow on this machine"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, // so that clients accept it as its own authority
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		// Who trusts it trusts no certificate for another host.
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: []string{"localhost"},
		PermittedIPRanges: []*net.IPNet{{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}, {IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)}},
	}, &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "hedgerow on this machine"}}, &key.PublicKey, key)
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(certPath), 0o700); err != nil {
		return err
	}
	if err := atomicfile.Write(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})); err != nil {
		return err
	}
	return atomicfile.Write(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
