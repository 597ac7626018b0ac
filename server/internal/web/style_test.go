package web

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	colourToken = regexp.MustCompile(`(--[\w-]+): light-dark\(#([0-9a-f]{6}), #([0-9a-f]{6})\);`)
	anyToken    = regexp.MustCompile(`(--[\w-]+):`)
	usedToken   = regexp.MustCompile(`var\((--[\w-]+)\)`)
)

func styleSheet(t *testing.T) string {
	t.Helper()
	b, err := static.ReadFile("static/style.css")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// luminance is the relative luminance of a colour (WCAG 2.2, section "Definitions").
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		c := float64(n>>(16-8*i)&0xff) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

// TestContrast computes the contrast of each text token on each background, and of
// what is no text on what it stands on, in both themes (WCAG 2.2, 1.4.3 and 1.4.11,
// level AA).
func TestContrast(t *testing.T) {
	colours := make(map[string][2]string)
	for _, m := range colourToken.FindAllStringSubmatch(styleSheet(t), -1) {
		colours[m[1]] = [2]string{m[2], m[3]}
	}
	grounds := []string{"--bg", "--surface", "--surface-2", "--surface-3"}
	pairs := []struct {
		on    []string
		least float64
		of    []string
	}{
		{grounds, 4.5, []string{"--ink", "--ink-2", "--ink-3", "--accent", "--accent-hover", "--good", "--bad", "--warn", "--info"}},
		{[]string{"--accent-soft"}, 4.5, []string{"--ink", "--ink-2", "--ink-3", "--accent", "--accent-hover", "--good"}},
		{[]string{"--bad-soft"}, 4.5, []string{"--ink", "--bad"}},
		{[]string{"--warn-soft"}, 4.5, []string{"--ink", "--warn"}},
		{[]string{"--info-soft"}, 4.5, []string{"--ink", "--info"}},
		{[]string{"--accent", "--accent-hover"}, 4.5, []string{"--on-accent"}},
		{[]string{"--bg", "--surface"}, 3, []string{"--ctl"}},
		{grounds, 3, []string{"--focus"}},
		{[]string{"--surface"}, 3, []string{"--data-0", "--data-1", "--data-2", "--data-3", "--data-4", "--data-5", "--data-6", "--data-7", "--data-8", "--data-9"}},
	}
	seen := []string{"--line", "--line-2", "--data-other"} // hairlines, and what a label always has next to it
	for _, p := range pairs {
		seen = slices.Concat(seen, p.on, p.of)
		for _, on := range p.on {
			for _, of := range p.of {
				for i, theme := range []string{"light", "dark"} {
					a, b := luminance(t, colours[of][i]), luminance(t, colours[on][i])
					if got := (max(a, b) + 0.05) / (min(a, b) + 0.05); got < p.least {
						t.Errorf("%s on %s, %s: contrast %.2f, want %.1f", of, on, theme, got, p.least)
					}
				}
			}
		}
	}
	for name := range colours {
		if !slices.Contains(seen, name) {
			t.Errorf("no pair has %s", name)
		}
	}
}

// TestTokens finds colours that are not tokens, and tokens that are not there.
func TestTokens(t *testing.T) {
	style := styleSheet(t)
	var defined []string
	for _, m := range anyToken.FindAllStringSubmatch(style, -1) {
		defined = append(defined, m[1])
	}
	for _, m := range usedToken.FindAllStringSubmatch(style, -1) {
		if !slices.Contains(defined, m[1]) {
			t.Errorf("%s is used, and not defined", m[1])
		}
	}
	_, rules, ok := strings.Cut(style, "[data-theme=light]")
	if hex := regexp.MustCompile(`#[0-9a-f]{3,8}\b[^{]*;`).FindAllString(rules, -1); !ok || len(hex) > 0 {
		t.Errorf("colours outside the tokens: %q", hex)
	}
}
