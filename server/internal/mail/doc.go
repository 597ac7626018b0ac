// Package mail sends e-mail through the SMTP server that the settings name. It
// is the only sender of mail: alerts and invitations use it.
package mail
