// Command hedgerow is the whole of hedgerow in one binary: the gateway between
// applications and LLM providers, the journal, the store, the delivery to
// PostHog, and the commands that look after them. "hedgerow help" lists them.
// This package has the list of commands, the errors of the command line and the
// exit codes; server/internal/app is the server, server/internal/command has the
// other commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/command"
	"github.com/hedgerow/hedgerow/server/internal/config"
)

// version, commit and date are set by make: -ldflags "-X main.version=…".
var (
	version string
	commit  string // of the source
	date    string // of the commit, RFC 3339
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	privateFiles()
	os.Exit(run(ctx, os.Args))
}

func run(ctx context.Context, args []string) int {
	err := runCommand(ctx, root(), args)
	if err == nil {
		return 0
	}
	printError(err)
	if exit := (*config.ExitError)(nil); errors.As(err, &exit) {
		return exit.Code
	}
	return config.ExitFailure
}

func runCommand(ctx context.Context, c *cli.Command, args []string) error {
	if err := c.Run(ctx, args); err != nil {
		return variableError(err)
	}
	return nil
}

func root() *cli.Command {
	c := func() *config.Config { return &config.Config{Version: buildVersion()} } // each command has its own
	cmd := &cli.Command{
		Name:                  "hedgerow",
		Usage:                 "self-hosted LLM analytics between your applications and their providers",
		Version:               buildVersion(),
		EnableShellCompletion: true,
		HideVersion:           true, // "hedgerow version" says more
		ExitErrHandler:        func(context.Context, *cli.Command, error) {},
		Commands: []*cli.Command{
			serveCommand(c()),
			demoCommand(c()),
			command.Doctor(c()),
			command.Health(c()),
			command.Project(c()),
			command.Connection(c()),
			command.Mail(c()),
			command.Prices(c()),
			command.Reconcile(c()),
			command.Replay(c()),
			command.Events(c()),
			command.Backup(c()),
			command.Restore(c()),
			command.MCP(c()),
			command.Version(command.BuildInfo{Version: buildVersion(), Commit: commit, Date: date}),
		},
	}
	strict(cmd)
	return cmd
}

// strict makes every command, however deep, reject what it does not understand:
// a wrong flag, a command that is none, too many arguments or too few.
func strict(c *cli.Command) {
	c.OnUsageError = func(_ context.Context, cmd *cli.Command, err error, _ bool) error {
		return usageError(cmd, "the command line is not understood", err)
	}
	for _, sub := range c.Commands {
		strict(sub)
	}
	action := c.Action
	if action == nil {
		c.Action = func(_ context.Context, cmd *cli.Command) error {
			if cmd.Args().Len() == 0 {
				return cli.ShowSubcommandHelp(cmd)
			}
			var names []string
			for _, sub := range cmd.Commands {
				names = append(names, sub.Name)
			}
			return config.Invalid(fmt.Sprintf("%s has no command %q", cmd.FullName(), cmd.Args().First()), config.DidYouMean(cmd.Args().First(), names, "see "+cmd.FullName()+" --help"), nil)
		}
		return
	}
	least, most := arguments(c.ArgsUsage)
	c.Action = func(ctx context.Context, cmd *cli.Command) error {
		switch n := cmd.Args().Len(); {
		case n < least:
			return usageError(cmd, fmt.Sprintf("%s needs %s", cmd.FullName(), c.ArgsUsage), nil)
		case n > most && most == 0:
			return usageError(cmd, fmt.Sprintf("%s takes no arguments: got %q", cmd.FullName(), cmd.Args().First()), nil)
		case n > most:
			return usageError(cmd, fmt.Sprintf("%s takes only %s: got %q as well", cmd.FullName(), c.ArgsUsage, cmd.Args().Get(most)), nil)
		}
		return action(ctx, cmd)
	}
}

// arguments reads how many arguments a command takes from how its help writes
// them: "NAME", "[PROVIDER]", "[ID …]", "UUID …".
func arguments(usage string) (least, most int) {
	switch {
	case usage == "":
		return 0, 0
	case strings.Contains(usage, "…") && strings.HasPrefix(usage, "["):
		return 0, math.MaxInt
	case strings.Contains(usage, "…"):
		return 1, math.MaxInt
	case strings.HasPrefix(usage, "[") && strings.HasSuffix(usage, "]"):
		return 0, 1
	}
	return 1, 1
}

func usageError(cmd *cli.Command, message string, err error) error {
	return config.Invalid(message, "see "+cmd.FullName()+" --help", err)
}

// ofVariable is how the command line's package says that an environment variable
// has no value of its flag's type. It has no type of error for that.
var ofVariable = regexp.MustCompile(`^could not parse ("(?:[^"\\]|\\.)*") as (\S+) value from environment variable "(\w+)" for flag \S+: (.*)$`)

// variableError makes such an error one of a wrong setting.
func variableError(err error) error {
	m := ofVariable.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	form := "write a value as docs/configuration.md shows, or unset " + m[3]
	switch m[2] {
	case "bool":
		form = "write true or false, or unset " + m[3]
	case "time.Duration":
		form = "write a number with a unit, for example 10s or 2m, or unset " + m[3]
	case "int", "int64", "uint", "uint64":
		form = "write a whole number, or unset " + m[3]
	}
	return config.Invalid(fmt.Sprintf("%s: invalid value %s", m[3], m[1]), form, errors.New(m[4]))
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
		fmt.Fprintln(os.Stderr, "  fix:", e.Hint)
	}
}

// buildVersion is what the Makefile says or, for go install, the module's version.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
