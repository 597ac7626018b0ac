//go:build !unix

package privacy_test

import "time"

var begun = time.Now()

// processorTime is the time of the clock where that of the processor is not known.
func processorTime() time.Duration { return time.Since(begun) }
