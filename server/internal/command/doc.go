// Package command has the administrative subcommands: doctor, project,
// connection, prices, replay, events, backup, restore and mcp. Each reads its
// flags, calls the API of the server that runs on the data folder, and prints the
// answer. Without a running server the command opens the folder itself
// (control.go), so that the same code does the work.
package command
