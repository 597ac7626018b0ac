// Command hedgerow is the whole of hedgerow in one binary: the gateway between
// applications and LLM providers, the journal, the store, the delivery to
// PostHog, and the commands that look after them. "hedgerow help" lists them;
// one file of this package holds each.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/event"
)

// version is set by the Makefile: -ldflags "-X main.version=…".
var version = ""

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args))
}

func run(ctx context.Context, args []string) int {
	err := root().Run(ctx, args)
	if err == nil {
		return 0
	}
	printError(err)
	if exit := (*exitError)(nil); errors.As(err, &exit) {
		return exit.code
	}
	return exitFailure
}

func root() *cli.Command {
	c := &cli.Command{
		Name:                  "hedgerow",
		Usage:                 "self-hosted LLM analytics between your applications and their providers",
		Version:               buildVersion(),
		EnableShellCompletion: true,
		HideVersion:           true, // "hedgerow version" says more
		ExitErrHandler:        func(context.Context, *cli.Command, error) {},
		Commands: []*cli.Command{
			serveCommand(),
			demoCommand(),
			doctorCommand(),
			projectCommand(),
			connectionCommand(),
			pricesCommand(),
			replayCommand(),
			backupCommand(),
			restoreCommand(),
			mcpCommand(),
			versionCommand(),
		},
	}
	onUsageError(c)
	return c
}

// onUsageError gives every command, however deep, the exit code of a wrong
// setting for a wrong flag.
func onUsageError(c *cli.Command) {
	c.OnUsageError = func(_ context.Context, cmd *cli.Command, err error, _ bool) error {
		return configError("the command line is not understood", "see "+cmd.FullName()+" --help", err)
	}
	for _, sub := range c.Commands {
		onUsageError(sub)
	}
}

// printError writes an error for people: what happened, why, what to do.
func printError(err error) {
	var e *event.Error
	if !errors.As(err, &e) {
		fmt.Fprintln(os.Stderr, "hedgerow:", err)
		return
	}
	fmt.Fprintln(os.Stderr, "hedgerow:", e.Message)
	if e.Err != nil {
		fmt.Fprintln(os.Stderr, "  cause:", e.Err)
	}
	if e.Hint != "" {
		fmt.Fprintln(os.Stderr, "  to do:", e.Hint)
	}
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version of hedgerow and of its engines",
		Action: func(_ context.Context, cmd *cli.Command) error {
			w := cmd.Root().Writer
			fmt.Fprintln(w, "hedgerow", buildVersion())
			info, ok := debug.ReadBuildInfo()
			if !ok {
				return nil
			}
			fmt.Fprintln(w, "  go", info.GoVersion)
			for _, dep := range info.Deps {
				switch dep.Path {
				case "github.com/nats-io/nats-server/v2", "github.com/duckdb/duckdb-go/v2":
					fmt.Fprintln(w, " ", dep.Path, dep.Version)
				}
			}
			return nil
		},
	}
}

func buildVersion() string {
	if version != "" {
		return version
	}
	return "dev"
}
