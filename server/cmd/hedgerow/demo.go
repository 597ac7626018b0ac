package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/demo"
)

// demoCommand is serve with everything outside simulated in the same process, so
// that all can be seen without any key.
func demoCommand(c *config.Config) *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "serve with a simulated provider, a simulated PostHog and steady traffic; needs no keys",
		Flags: append(c.Flags(),
			&cli.FloatFlag{Name: "rate", Value: 3, Usage: "simulated calls per second"}),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if !cmd.IsSet("data") {
				// Demo data must never mix with real data.
				c.Data = filepath.Join(os.TempDir(), "hedgerow-demo")
			}
			if err := c.Load(cmd); err != nil {
				return err
			}
			return demo.Run(ctx, c, cmd.Float("rate"), cmd.Root().Writer)
		},
	}
}
