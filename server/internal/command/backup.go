package command

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/server/internal/backup"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// Backup is hedgerow backup.
func Backup(c *config.Config) *cli.Command {
	return &cli.Command{
		Name: "backup", Usage: "write the store and the settings to a new folder, on a running server or without one", ArgsUsage: "FOLDER",
		Flags: c.SubFlags(&cli.IntFlag{Name: "schema", Usage: fmt.Sprintf("write a backup for an older hedgerow with this store schema: %d or later (docs/upgrade.md)", store.OldestSchema)}),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			folder, err := filepath.Abs(cmd.Args().First())
			if err != nil || cmd.Args().Len() != 1 {
				return config.Invalid("backup takes one folder", "hedgerow backup ./backup-2026-11-21", err)
			}
			return withControl(ctx, c, cmd, func(ctl *control) error {
				var out backup.Result
				if err := ctl.call(ctx, "POST", "/backup", backup.Request{Folder: folder, Schema: cmd.Int("schema")}, &out); err != nil {
					return err
				}
				fmt.Fprintf(cmd.Root().Writer, "backed up to %s: store of %d bytes, %d settings\nkeep %s, or HEDGEROW_SECRET_KEY, in another place: without it the stored keys cannot be decrypted\n",
					folder, out.StoreBytes, out.Records, c.Path("secret.key"))
				return nil
			})
		},
	}
}

// Restore is hedgerow restore.
func Restore(c *config.Config) *cli.Command {
	return &cli.Command{
		Name: "restore", Usage: "create a new data folder from a backup", ArgsUsage: "FOLDER",
		Flags: c.SubFlags(),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if cmd.Args().Len() != 1 {
				return config.Invalid("restore takes one folder", "hedgerow restore ./backup-2026-11-21 --data ./data", nil)
			}
			if err := c.LoadSub(cmd); err != nil {
				return err
			}
			n, err := backup.Restore(ctx, c, cmd.Args().First())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.Root().Writer, "restored to %s: %d settings\nput that backup's secret key at %s, or set HEDGEROW_SECRET_KEY, before you start hedgerow\n", c.Data, n, c.Path("secret.key"))
			return nil
		},
	}
}
