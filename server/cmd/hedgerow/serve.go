package main

import (
	"context"

	"github.com/urfave/cli/v3"
)

// serveCommand is the main job.
func serveCommand(c *config) *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "pass LLM calls through, record them, deliver them to PostHog",
		Flags: c.flags(),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if err := c.load(cmd); err != nil {
				return err
			}
			return runServer(ctx, c, cmd.Root().Writer)
		},
	}
}
