package command

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/mail"
)

// Mail is the command that tests the configured SMTP server.
func Mail(c *config.Config) *cli.Command {
	return &cli.Command{
		Name:  "mail",
		Usage: "test sending of e-mail",
		Commands: []*cli.Command{{
			Name: "test", Usage: "send a test message with the configured SMTP server", ArgsUsage: "ADDRESS",
			Flags: c.SubFlags(),
			Action: func(ctx context.Context, cmd *cli.Command) error {
				if err := c.LoadSub(cmd); err != nil {
					return err
				}
				if err := c.RequireData(); err != nil {
					return err
				}
				s, err := c.Mail()
				if err != nil {
					return err
				}
				if s == nil {
					return config.Invalid("no SMTP server is configured", "set HEDGEROW_SMTP_URL and smtp_from", nil)
				}
				ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
				defer cancel()
				to := cmd.Args().First()
				if err := s.Send(ctx, mail.Test(uuid.NewString(), to)); err != nil {
					return err
				}
				fmt.Fprintln(cmd.Root().Writer, "The mail server accepted a test message to "+to+".")
				return nil
			},
		}},
	}
}
