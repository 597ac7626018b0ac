// Package command has the subcommands that look after a hedgerow: doctor, project,
// connection, prices, replay, events, backup, restore and mcp. Each reads its flags,
// calls the API of the server that runs on the data folder, and prints the answer.
// Where no server runs, the command opens the folder itself (control.go), so that the
// same code does the work.
package command
