package mail

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"
	"time"
)

// Message is one e-mail. No field can add a header: line breaks become spaces.
type Message struct {
	// ID is the left part of the Message-ID; the sender's domain follows it. The
	// same ID on each attempt lets receivers recognise a repeated message.
	ID      string
	To      []string
	Subject string
	Text    string
	HTML    string // optional alternative of Text
}

// Test is the message that shows that mail can be sent.
func Test(id, to string) Message {
	return Message{ID: id, To: []string{to}, Subject: "hedgerow: test message", Text: "hedgerow can send e-mail with this configuration.\n"}
}

var oneLine = strings.NewReplacer("\r", " ", "\n", " ")

// encode writes a message by RFC 5322; with HTML, as multipart/alternative.
func (m Message) encode(from mail.Address, at time.Time) []byte {
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, oneLine.Replace(value)) }
	to := make([]string, len(m.To))
	for i, s := range m.To {
		if a, err := mail.ParseAddress(s); err == nil {
			to[i] = strings.Trim((&mail.Address{Address: a.Address}).String(), "<>")
		}
	}
	domain := from.Address[strings.LastIndexByte(from.Address, '@')+1:]
	header("From", from.String())
	header("To", strings.Join(to, ", "))
	header("Subject", mime.QEncoding.Encode("utf-8", oneLine.Replace(m.Subject)))
	header("Date", at.UTC().Format(time.RFC1123Z))
	header("Message-ID", "<"+m.ID+"@"+domain+">")
	header("MIME-Version", "1.0")
	header("Auto-Submitted", "auto-generated") // RFC 3834: no out-of-office answers
	if m.HTML == "" {
		header("Content-Type", "text/plain; charset=utf-8")
		header("Content-Transfer-Encoding", "quoted-printable")
		b.WriteString("\r\n")
		quote(&b, m.Text)
		return b.Bytes()
	}
	w := multipart.NewWriter(&b)
	sum := sha256.Sum256([]byte(m.ID + m.Text + m.HTML))
	_ = w.SetBoundary(hex.EncodeToString(sum[:])) // 64 characters; the limit is 70
	header("Content-Type", `multipart/alternative; boundary="`+w.Boundary()+`"`)
	b.WriteString("\r\n")
	for _, p := range [][2]string{{"text/plain", m.Text}, {"text/html", m.HTML}} {
		// The writer is a buffer, which has no errors.
		part, _ := w.CreatePart(textproto.MIMEHeader{"Content-Type": {p[0] + "; charset=utf-8"}, "Content-Transfer-Encoding": {"quoted-printable"}})
		quote(part, p[1])
	}
	_ = w.Close()
	return b.Bytes()
}

func quote(w io.Writer, text string) {
	q := quotedprintable.NewWriter(w)
	_, _ = io.WriteString(q, strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n"))
	_ = q.Close()
}
