package app

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// dropStartPages returns the binary's pages that only the start needed to the
// kernel: symbol tables, the setup of DuckDB's functions. It only drops
// read-only mappings of the binary without written pages (relocations write), so
// that a page used again is read from the file by a minor fault.
func dropStartPages() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer f.Close()
	var from, to uint64
	for s := bufio.NewScanner(f); s.Scan(); {
		m := strings.Fields(s.Text())
		switch {
		case len(m) >= 2 && m[0] == "Anonymous:":
			if to > from && m[1] == "0" {
				if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, uintptr(from), uintptr(to-from), syscall.MADV_DONTNEED); errno != 0 {
					return errno
				}
			}
			from, to = 0, 0
		case len(m) >= 5 && strings.Contains(m[0], "-"): // start-end perms offset device inode path
			from, to = 0, 0
			if len(m) == 6 && m[5] == exe && strings.HasPrefix(m[1], "r") && !strings.Contains(m[1], "w") {
				a, b, _ := strings.Cut(m[0], "-")
				from, _ = strconv.ParseUint(a, 16, 64)
				to, _ = strconv.ParseUint(b, 16, 64)
			}
		}
	}
	return nil
}
