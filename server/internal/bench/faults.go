package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// faults measures what callers notice of a full disk: the same load in turn through
// a hedgerow whose folder is on a full disk and through one that is well.
func faults(upstreamURL, dir string) {
	disk := filepath.Join(dir, "disk")
	check(os.Mkdir(disk, 0o700))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", disk).CombinedOutput(); err != nil {
		fmt.Printf("NOT MEASURED: a full disk, since a tmpfs cannot be mounted here (run as root): %s\n", out)
		return
	}
	defer func() { _ = exec.Command("umount", "-l", disk).Run() }()
	well := startHedgerow(*binary, upstreamURL, filepath.Join(dir, "well"))
	defer well.stop()
	full := startHedgerow(*binary, upstreamURL, filepath.Join(disk, "data"))
	defer full.stop()
	fillDisk(filepath.Join(disk, "filler"))

	fmt.Printf("a full disk, against the same hedgerow on one that is not; %d rounds of %v, medians\n", *rounds, *duration)
	for _, c := range []struct {
		name    string
		stream  bool
		callers int
	}{{"JSON, 1 caller", false, 1}, {"JSON, 64 callers", false, 64}, {"stream, 1 caller", true, 1}, {"stream, 64 callers", true, 64}} {
		body := requestBody(c.stream)
		var latency, first, rate []float64
		var failed int64
		for i := range *rounds + 1 { // the first one warms up
			a, b := load(well.url, body, c.callers, *duration, nil), load(full.url, body, c.callers, *duration, nil)
			failed += b.errors
			if i > 0 {
				latency, first, rate = append(latency, float64(b.p50)/float64(a.p50)), append(first, float64(b.ttft50)/float64(a.ttft50)), append(rate, b.rps/a.rps)
			}
		}
		fmt.Printf("  %-20s p50 × %.2f (rounds %.2f–%.2f), time to first token × %.2f, calls/s × %.2f, %d failed\n", c.name, median(latency), slices.Min(latency), slices.Max(latency), median(first), median(rate), failed)
	}
	for name, v := range metrics(full) {
		if strings.HasPrefix(name, "hedgerow_gateway_capture_dropped_total") && v > 0 {
			fmt.Printf("  %s %.0f\n", name, v)
		}
	}
	fmt.Println()
}

// fillDisk writes until the disk is full.
func fillDisk(path string) {
	f, err := os.Create(path)
	check(err)
	defer f.Close()
	block := make([]byte, 64<<10)
	for len(block) > 0 {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else {
			check(err)
		}
	}
}

// idleAfterLoad says what a saturating load leaves behind once it is over.
func idleAfterLoad(h *process) {
	fmt.Println("memory after load: 64 callers for 20 s, then nothing")
	var top peak
	done := make(chan struct{})
	go func() {
		defer close(done)
		load(h.url, requestBody(false), 64, 20*time.Second, nil)
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(200 * time.Millisecond):
			top.look(h)
		}
	}
	fmt.Printf("  under load                            %v\n", top)
	ended := time.Now()
	for _, after := range []time.Duration{30 * time.Second, 90 * time.Second, 180 * time.Second} {
		time.Sleep(time.Until(ended.Add(after)))
		all, file := rss(h)
		fmt.Printf("  %3.0f s later                           %4d MB resident (%d of them the binary's)\n", after.Seconds(), all, file)
	}
}
