//go:build !unix

package privacy_test

import "time"

var begun = time.Now()

// processorTime is the wall-clock time on systems without a CPU time.
func processorTime() time.Duration { return time.Since(begun) }
