package config

import "github.com/hedgerow/hedgerow/event"

// LoopbackCert is the value of tls_cert with which hedgerow makes a certificate
// of its own for this machine's loopback addresses.
const LoopbackCert = "loopback"

// TLS reports whether the HTTP listeners speak TLS.
func (c *Config) TLS() bool { return c.TLSCert != "" }

// Scheme is the scheme of the listeners' URLs.
func (c *Config) Scheme() string {
	if c.TLS() {
		return "https"
	}
	return "http"
}

func (c *Config) validateTLS() error {
	switch {
	case c.TLSCert == LoopbackCert && c.TLSKey != "":
		return Invalid("tls_key: the certificate of tls_cert: loopback has a key of its own", "remove tls_key, or set tls_cert to a certificate file", nil)
	case c.TLSCert == LoopbackCert && (!IsLoopback(c.Listen) || c.GatewayListen != "" && !IsLoopback(c.GatewayListen)):
		return Exit(ExitConfig, event.Invalid("tls_cert: loopback is for loopback addresses only", "listen on 127.0.0.1, or set tls_cert and tls_key to the certificate files of your host"))
	case c.TLSCert == LoopbackCert, (c.TLSCert == "") == (c.TLSKey == ""):
		return nil
	}
	return Invalid("tls_cert and tls_key must be set together", "set both to PEM files, or neither", nil)
}
