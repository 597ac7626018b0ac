//go:build unix

package main

import "golang.org/x/sys/unix"

// privateFiles has every file that the process makes be readable by its user
// alone, whoever makes it: DuckDB and NATS have no setting for that.
func privateFiles() { unix.Umask(0o077) }
