package app

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

// TestDropStartPages checks that pages are dropped and that the program
// continues.
func TestDropStartPages(t *testing.T) {
	resident := func() int {
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Skip("no /proc here: ", err)
		}
		m := regexp.MustCompile(`RssFile:\s+(\d+) kB`).FindSubmatch(b)
		if m == nil {
			t.Skip("this kernel does not tell RssFile")
		}
		n, _ := strconv.Atoi(string(m[1]))
		return n
	}
	before := resident()
	if err := dropStartPages(); err != nil {
		t.Fatal(err)
	}
	if after := resident(); after >= before {
		t.Errorf("%d kB of files were resident before, %d after", before, after)
	}
}
