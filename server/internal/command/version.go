package command

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/server/internal/store"
)

// BuildInfo is the output of hedgerow version --json.
type BuildInfo struct {
	Version string `json:"version"`          // the tag, or what git describes the commit as; dev where neither is known
	Commit  string `json:"commit,omitempty"` // of the source; empty for a build from a module proxy
	Date    string `json:"date,omitempty"`   // of the commit, RFC 3339; empty where the commit is
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	DuckDB  string `json:"duckdb"` // the store's engine
	NATS    string `json:"nats"`   // the journal's engine
}

// Version is the command that prints build, completed with details of the binary
// and its engines.
func Version(build BuildInfo) *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version of hedgerow and of its engines",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print it as JSON"}},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			info, err := build.complete(ctx)
			if err != nil {
				return err
			}
			w := cmd.Root().Writer
			if cmd.Bool("json") {
				enc := json.NewEncoder(w)
				enc.SetIndent("", "  ")
				return enc.Encode(info)
			}
			fmt.Fprintln(w, "hedgerow", info.Version)
			for _, line := range [][2]string{
				{"commit", info.Commit}, {"date", info.Date}, {"go", info.Go}, {"platform", info.OS + "/" + info.Arch}, {"duckdb", info.DuckDB}, {"nats", info.NATS},
			} {
				if line[1] != "" {
					fmt.Fprintf(w, "  %-9s%s\n", line[0], line[1])
				}
			}
			return nil
		},
	}
}

func (b BuildInfo) complete(ctx context.Context) (BuildInfo, error) {
	b.Go, b.OS, b.Arch = runtime.Version(), runtime.GOOS, runtime.GOARCH
	var err error
	if b.DuckDB, err = store.EngineVersion(ctx); err != nil {
		return b, err
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b, nil
	}
	for _, dep := range info.Deps {
		if dep.Path == "github.com/nats-io/nats-server/v2" {
			b.NATS = dep.Version
		}
	}
	if b.Commit != "" {
		return b, nil
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		}
	}
	return b, nil
}
