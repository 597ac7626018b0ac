package page

import (
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
)

// FileName keeps what any file system takes.
func FileName(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
		return r
	}
	return '_'
}

// PlainText prevents spreadsheets from interpreting a user's text as a formula
// (OWASP, CSV injection). It includes full-width signs, which some read as
// plain ones, and signs after characters that a spreadsheet does not show.
func PlainText(s string) string {
	rest := strings.TrimLeftFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zs, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) || r == utf8.RuneError
	})
	first, _ := utf8.DecodeRuneInString(rest)
	if s != "" && (strings.ContainsRune("=+-@＝＋－＠﹦﹢﹣﹫", first) && rest != "" || strings.ContainsRune("\t\r\n", rune(s[0]))) {
		return "'" + s
	}
	return s
}

// CSVHeaders sets the headers of a CSV file with a name and a day.
func CSVHeaders(w http.ResponseWriter, name string, now time.Time) {
	h := w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Disposition", `attachment; filename="`+strings.Trim(strings.Map(FileName, strings.ToLower(name)), "_")+"-"+now.UTC().Format(time.DateOnly)+`.csv"`)
}

// Fraction is a number of a file, empty where it is unknown.
func Fraction(n event.Opt[float64]) string {
	if !n.Known {
		return ""
	}
	return strconv.FormatFloat(n.Value, 'f', -1, 64)
}
