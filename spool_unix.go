//go:build unix && !aix && !solaris

package hedgerow

import (
	"errors"
	"os"
	"syscall"
)

// lockFile opens and locks a file. It returns an error if another process
// has locked it. The lock is released when the process ends, even if it is
// killed.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, err
	}
	return f, nil
}
