//go:build (!unix && !windows) || aix || solaris

package hedgerow

import (
	"errors"
	"os"
)

func lockFile(string) (*os.File, error) {
	return nil, errors.New("this system has no file locks: leave Config.SpoolDir empty")
}
