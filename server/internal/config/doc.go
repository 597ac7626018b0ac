// Package config is what a hedgerow is told from outside: the flags, environment
// variables and hedgerow.yaml of a server and of its subcommands, read and checked
// by [Config.Load], and the exit codes for what is wrong ([ExitError]). It is apart
// from app so that subcommands and backup read the settings without building a
// server.
package config
