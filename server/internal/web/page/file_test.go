package page_test

import (
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

func TestPlainText(t *testing.T) {
	for _, s := range []string{
		"=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", "＝1+1", "＋1", "－1", "＠x", "﹦1", " =1", "\u00a0=1", "\u3000＝1", "\u200b=1", "\ufeff=1", "\u2060\u200d+1", "\x00=1", "\x1b@x", "\u202e=1", "\u115f=1", "\ufe0f=1", " \t \u200b\r=1", "\u2028-1",
		"\xff=1", "\u00ad=1", "\u180e@x",
	} {
		if got := page.PlainText(s); got != "'"+s {
			t.Errorf("%q became %q", s, got)
		}
	}
	for _, s := range []string{"", "a", "a=1", "1-2", "über", "(=1)", " ", "\u200b", "’=", "'=1", "☃"} {
		if got := page.PlainText(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
}
