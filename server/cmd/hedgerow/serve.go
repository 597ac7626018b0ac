package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/server/internal/app"
	"github.com/hedgerow/hedgerow/server/internal/config"
)

// serveCommand is the main job.
func serveCommand(c *config.Config) *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "pass LLM calls through, record them, deliver them to PostHog",
		Flags: c.Flags(),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if err := c.Load(cmd); err != nil {
				return err
			}
			return app.Run(ctx, c, cmd.Root().Writer)
		},
	}
}
