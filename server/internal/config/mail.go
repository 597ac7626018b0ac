package config

import (
	"os"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/mail"
)

// Mail is the sender of e-mail, nil if no SMTP server is set.
func (c *Config) Mail() (*mail.Sender, error) {
	if c.SMTPURL == "" {
		return nil, nil
	}
	set := mail.Config{URL: c.SMTPURL, From: c.SMTPFrom}
	if c.SMTPPasswordFile != "" {
		b, err := os.ReadFile(c.SMTPPasswordFile)
		if err != nil {
			return nil, Invalid("smtp_password_file cannot be read", "check its path and permissions", err)
		}
		set.Password = strings.TrimSpace(string(b))
	}
	s, err := mail.New(set)
	if err != nil {
		e := event.AsError(err)
		return nil, Invalid("HEDGEROW_SMTP_URL or smtp_from cannot be used: "+e.Message, e.Hint, nil)
	}
	return s, nil
}
