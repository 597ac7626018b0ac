//go:build unix

package main

import "golang.org/x/sys/unix"

// privateFiles makes every file of the process readable by its user only,
// including those of libraries: DuckDB and NATS have no setting for that.
func privateFiles() { unix.Umask(0o077) }
