package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Config names the SMTP server and the sender of all mail.
type Config struct {
	// URL is smtp://user:password@host:587, which requires TLS by STARTTLS unless the
	// host is this machine, or smtps://…:465, which is TLS from the first byte.
	URL string
	// Password takes precedence over the URL's; it comes from a file.
	Password string
	From     string // an address, with or without a name

	TLS  *tls.Config                                // default: the system's certificates
	Now  func() time.Time                           // default: time.Now
	Wait func(context.Context, time.Duration) error // between attempts; default: a timer
}

// Sender sends mail through one SMTP server.
type Sender struct {
	addr, host string
	implicit   bool // TLS from the first byte
	local      bool // the server is on this machine: no TLS needed
	auth       smtp.Auth
	from       mail.Address
	tls        *tls.Config
	now        func() time.Time
	wait       func(context.Context, time.Duration) error
}

// New validates a configuration without connecting. Its errors do not contain
// the password.
func New(c Config) (*Sender, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" {
		return nil, event.Invalid("the SMTP server's address cannot be read", "write smtp://user:password@mail.example.com:587 or smtps://user:password@mail.example.com:465")
	}
	from, err := mail.ParseAddress(c.From)
	if err != nil {
		return nil, event.Invalid("the sender of e-mail is not an e-mail address", "use an address such as hedgerow@example.com")
	}
	s := &Sender{host: u.Hostname(), implicit: u.Scheme == "smtps", from: *from, now: c.Now, wait: c.Wait}
	if s.now == nil {
		s.now = time.Now
	}
	if s.wait == nil {
		s.wait = pause
	}
	port := u.Port()
	switch {
	case port == "" && s.implicit:
		port = "465"
	case port == "":
		port = "587"
	}
	s.addr = net.JoinHostPort(s.host, port)
	ip := net.ParseIP(s.host)
	s.local = s.host == "localhost" || ip != nil && ip.IsLoopback()
	s.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLS != nil {
		s.tls = c.TLS.Clone()
	}
	s.tls.ServerName = s.host
	if u.User != nil {
		password, _ := u.User.Password()
		if c.Password != "" {
			password = c.Password
		}
		s.auth = smtp.PlainAuth("", u.User.Username(), password, s.host)
	}
	return s, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waits are the pauses of [Sender.SendRetrying] before its second and third attempt.
var waits = []time.Duration{time.Second, 4 * time.Second}

// SendRetrying is [Sender.Send] with up to three attempts, the second and third
// 1 and 4 seconds after a failure that may be temporary: no connection, or an
// answer of 400 to 499. It returns the error of the last attempt.
func (s *Sender) SendRetrying(ctx context.Context, m Message) error {
	for _, d := range waits {
		err := s.Send(ctx, m)
		if err == nil || !temporary(err) || s.wait(ctx, d) != nil {
			return err
		}
	}
	return s.Send(ctx, m)
}

func temporary(err error) bool {
	var e *event.Error
	if !errors.As(err, &e) || e.Code != event.CodeUnavailable {
		return false
	}
	var answer *textproto.Error
	return !errors.As(err, &answer) || answer.Code < 500
}

// Send makes one attempt to send a message to all its addresses, within 30
// seconds or the context's deadline.
func (s *Sender) Send(ctx context.Context, m Message) error {
	to, err := addresses(m.To)
	if err != nil {
		return err
	}
	err = s.send(ctx, to, m.encode(s.from, s.now()))
	var e *event.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	}
	var answer *textproto.Error
	if errors.As(err, &answer) {
		return event.NewError(event.CodeUnavailable, "the mail server rejected the message: "+answer.Error(), "check HEDGEROW_SMTP_URL, smtp_from and the mail server's log", err)
	}
	return event.NewError(event.CodeUnavailable, "the mail server could not be used", "check HEDGEROW_SMTP_URL and the mail server's log", err)
}

func (s *Sender) send(ctx context.Context, to []string, message []byte) error {
	conn, err := (&net.Dialer{Timeout: 15 * time.Second}).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	_ = conn.SetDeadline(deadline)
	if s.implicit {
		conn = tls.Client(conn, s.tls)
	}
	c, err := smtp.NewClient(conn, s.host)
	if err != nil {
		return err
	}
	defer c.Close()
	if ok, _ := c.Extension("STARTTLS"); ok && !s.implicit {
		if err := c.StartTLS(s.tls); err != nil {
			return err
		}
	} else if !s.implicit && !s.local {
		return event.NewError(event.CodeForbidden, "the mail server offers no TLS", "use smtps://, or a server that offers STARTTLS", nil)
	}
	if s.auth != nil {
		if err := c.Auth(s.auth); err != nil {
			return err
		}
	}
	if err := c.Mail(s.from.Address); err != nil {
		return err
	}
	for _, t := range to {
		if err := c.Rcpt(t); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(message); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	// The server has accepted the message: an error of QUIT changes nothing.
	_ = c.Quit()
	return nil
}

func addresses(list []string) ([]string, error) {
	if len(list) == 0 {
		return nil, event.Invalid("the message has no recipient", "give an e-mail address")
	}
	out := make([]string, len(list))
	for i, s := range list {
		a, err := mail.ParseAddress(s)
		if err != nil || strings.ContainsAny(a.Address, "\r\n<>") {
			return nil, event.Invalid("a recipient is not an e-mail address", "write it as name@example.com")
		}
		out[i] = a.Address
	}
	return out, nil
}
