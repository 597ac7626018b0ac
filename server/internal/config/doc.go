// Package config loads the settings of a server and of its subcommands: flags,
// environment variables and hedgerow.yaml, read and checked by [Config.Load], and
// the exit codes ([ExitError]). It is separate from app so that subcommands and
// backup read the settings without building a server.
package config
