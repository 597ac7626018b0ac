package mail_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/mail"
)

// letter is one message that the test server accepted.
type letter struct {
	from string
	to   []string
	data string
	tls  bool
	user string
}

// post is the back end of an SMTP server: it fails with the queued errors, one
// per message, before it accepts.
type post struct {
	mu      sync.Mutex
	fails   []*smtp.SMTPError
	letters []letter
	tries   int
	users   map[string]string
}

func (p *post) NewSession(c *smtp.Conn) (smtp.Session, error) {
	_, secure := c.TLSConnectionState()
	return &session{post: p, letter: letter{tls: secure}}, nil
}

type session struct {
	post   *post
	letter letter
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }
func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if s.post.users[user] != password {
			return smtp.ErrAuthFailed
		}
		s.letter.user = user
		return nil
	}), nil
}
func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.post.mu.Lock()
	defer s.post.mu.Unlock()
	s.post.tries++
	if s.post.users != nil && s.letter.user == "" {
		return smtp.ErrAuthRequired
	}
	if len(s.post.fails) > 0 {
		err := s.post.fails[0]
		s.post.fails = s.post.fails[1:]
		return err
	}
	s.letter.from = from
	return nil
}
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.letter.to = append(s.letter.to, to)
	return nil
}
func (s *session) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.letter.data = string(b)
	s.post.mu.Lock()
	defer s.post.mu.Unlock()
	s.post.letters = append(s.post.letters, s.letter)
	return err
}
func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

// serve starts the server and returns its address and what a client trusts.
func (p *post) serve(t *testing.T, implicit bool) (addr string, trust *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := smtp.NewServer(p)
	s.Domain = "mail.test"
	s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	listener := net.Listener(l)
	if implicit {
		listener = tls.NewListener(l, s.TLSConfig)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(listener) }()
	// Serve may not have begun: then Close does not know the listener.
	t.Cleanup(func() { _, _ = s.Close(), l.Close(); <-done })
	return l.Addr().String(), &tls.Config{RootCAs: pool}
}

func sender(t *testing.T, c mail.Config) *mail.Sender {
	t.Helper()
	if c.From == "" {
		c.From = "hedgerow <hedgerow@example.com>"
	}
	s, err := mail.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func code(err error) event.Code {
	if err == nil {
		return ""
	}
	return event.AsError(err).Code
}

func TestTLSAndPassword(t *testing.T) {
	for name, tt := range map[string]struct {
		scheme   string
		implicit bool
		untrust  bool
		user     string
		password string // of the file
		want     event.Code
	}{
		"STARTTLS":              {scheme: "smtp", user: "ann:right@"},
		"implicit TLS":          {scheme: "smtps", implicit: true, user: "ann:right@"},
		"password of a file":    {scheme: "smtp", user: "ann@", password: "right"},
		"file before the URL":   {scheme: "smtp", user: "ann:wrong@", password: "right"},
		"wrong password":        {scheme: "smtp", user: "ann:wrong@", want: event.CodeUnavailable},
		"no password":           {scheme: "smtp", want: event.CodeUnavailable},
		"unknown certificate":   {scheme: "smtp", user: "ann:right@", untrust: true, want: event.CodeUnavailable},
		"unknown, implicit TLS": {scheme: "smtps", implicit: true, user: "ann:right@", untrust: true, want: event.CodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			p := &post{users: map[string]string{"ann": "right"}}
			addr, trust := p.serve(t, tt.implicit)
			if tt.untrust {
				trust = &tls.Config{RootCAs: x509.NewCertPool()}
			}
			s := sender(t, mail.Config{URL: tt.scheme + "://" + tt.user + addr, Password: tt.password, TLS: trust})
			err := s.Send(t.Context(), mail.Test("1", "bob@example.com"))
			if code(err) != tt.want {
				t.Fatalf("%v, want %q", err, tt.want)
			}
			if tt.want != "" {
				if len(p.letters) != 0 {
					t.Errorf("%+v", p.letters)
				}
				return
			}
			if len(p.letters) != 1 || !p.letters[0].tls || p.letters[0].user != "ann" || p.letters[0].from != "hedgerow@example.com" || !slices.Equal(p.letters[0].to, []string{"bob@example.com"}) {
				t.Errorf("%+v", p.letters)
			}
		})
	}
}

func TestRetries(t *testing.T) {
	busy, gone := &smtp.SMTPError{Code: 451, Message: "busy"}, &smtp.SMTPError{Code: 550, Message: "no such mailbox"}
	for name, tt := range map[string]struct {
		fails []*smtp.SMTPError
		tries int
		want  string // part of the error
	}{
		"accepted":             {tries: 1},
		"busy twice":           {fails: []*smtp.SMTPError{busy, busy}, tries: 3},
		"busy for longer":      {fails: []*smtp.SMTPError{busy, busy, busy}, tries: 3, want: "busy"},
		"rejected for good":    {fails: []*smtp.SMTPError{gone}, tries: 1, want: "no such mailbox"},
		"busy, then for good":  {fails: []*smtp.SMTPError{busy, gone}, tries: 2, want: "no such mailbox"},
		"an accepted one ends": {fails: []*smtp.SMTPError{busy}, tries: 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := &post{fails: tt.fails}
			addr, trust := p.serve(t, false)
			var waits []time.Duration
			s := sender(t, mail.Config{URL: "smtp://" + addr, TLS: trust, Wait: func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }})
			err := s.SendRetrying(t.Context(), mail.Test("1", "bob@example.com"))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if p.tries != tt.tries || len(waits) != tt.tries-1 {
				t.Errorf("%d attempts with waits %v, want %d", p.tries, waits, tt.tries)
			}
			if want := min(1, max(0, 1-len(tt.want))); len(p.letters) != want {
				t.Errorf("%d messages, want %d", len(p.letters), want)
			}
		})
	}
	// An ended request stops the attempts.
	p := &post{fails: []*smtp.SMTPError{busy, busy}}
	addr, trust := p.serve(t, false)
	s := sender(t, mail.Config{URL: "smtp://" + addr, TLS: trust, Wait: func(context.Context, time.Duration) error { return context.Canceled }})
	if err := s.SendRetrying(t.Context(), mail.Test("1", "bob@example.com")); err == nil || p.tries != 1 {
		t.Errorf("%v after %d attempts", err, p.tries)
	}
}

func TestMessage(t *testing.T) {
	p := &post{}
	addr, trust := p.serve(t, false)
	at := time.Date(2026, 6, 4, 12, 0, 0, 0, time.UTC)
	s := sender(t, mail.Config{URL: "smtp://" + addr, From: "Grüße <hedgerow@example.com>", TLS: trust, Now: func() time.Time { return at }})
	text, html := "Hello\nGrüße.\n.\nend "+strings.Repeat("long ", 300), "<p>Grüße</p>"
	err := s.Send(t.Context(), mail.Message{ID: "x\r\nBcc: a@evil.example", To: []string{"Ann <ann@example.com>", "bob@example.com"}, Subject: "Grüße\r\nBcc: x@evil.example", Text: text, HTML: html})
	if err != nil {
		t.Fatal(err)
	}
	msg, err := netmail.ReadMessage(strings.NewReader(p.letters[0].data))
	if err != nil {
		t.Fatal(err)
	}
	h := msg.Header
	subject, err := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
	if err != nil || subject != "Grüße  Bcc: x@evil.example" || h.Get("Bcc") != "" || h.Get("To") != "ann@example.com, bob@example.com" || h.Get("Date") != "Thu, 04 Jun 2026 12:00:00 +0000" {
		t.Errorf("%q, %v, %v", subject, err, h)
	}
	if from, err := h.AddressList("From"); err != nil || from[0].Name != "Grüße" {
		t.Errorf("%v, %v", from, err)
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("%s, %v", kind, err)
	}
	r := multipart.NewReader(msg.Body, params["boundary"])
	for _, want := range [][2]string{{"text/plain; charset=utf-8", strings.ReplaceAll(text, "\n", "\r\n")}, {"text/html; charset=utf-8", html}} {
		part, err := r.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil || string(body) != want[1] || part.Header.Get("Content-Type") != want[0] {
			t.Errorf("%q, %v, want %q", body, err, want)
		}
	}
	for line := range strings.SplitSeq(p.letters[0].data, "\r\n") {
		if len(line) > 200 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

func TestRejected(t *testing.T) {
	for _, bad := range [][2]string{{"mail.example.com:25", "a@b.c"}, {"http://mail.example.com", "a@b.c"}, {"smtp://u:hush@", "a@b.c"}, {"smtp://mail.example.com", "nobody"}, {"smtp://u:hush@mail.example.com:port", "a@b.c"}} {
		_, err := mail.New(mail.Config{URL: bad[0], From: bad[1]})
		if code(err) != event.CodeInvalid || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	p := &post{}
	addr, trust := p.serve(t, false)
	s := sender(t, mail.Config{URL: "smtp://" + addr, TLS: trust})
	for _, to := range [][]string{nil, {""}, {"ann"}, {"ann@example.com\r\nRCPT TO:<eve@evil.example>"}, {"\"a\r\nb\"@example.com"}} {
		if err := s.Send(t.Context(), mail.Message{ID: "1", To: to}); code(err) != event.CodeInvalid {
			t.Errorf("%q: %v", to, err)
		}
	}
	if p.tries != 0 {
		t.Errorf("%d attempts", p.tries)
	}
	// A server that does not listen.
	s = sender(t, mail.Config{URL: "smtp://127.0.0.1:1"})
	if err := s.Send(t.Context(), mail.Test("1", "bob@example.com")); code(err) != event.CodeUnavailable {
		t.Errorf("%v", err)
	}
}
