package page

import (
	"context"
	"net/http"
	"slices"

	"github.com/a-h/templ"
)

// Themes are what a person can choose: that of the operating system, or one of two.
var Themes = []string{"system", "light", "dark"}

const (
	themeCookie = "hedgerow_theme"
	sideCookie  = "hedgerow_side"
	// narrowSide is the value of sideCookie where the side bar shows icons only.
	narrowSide = "narrow"
)

// Appearance is how pages look in a browser. Cookies keep it, so that the server
// writes it into the page and nothing changes once the page is shown.
type Appearance struct {
	Theme  string // of Themes
	Narrow bool   // the side bar shows icons only
}

func (a Appearance) side() string {
	if a.Narrow {
		return narrowSide
	}
	return "wide"
}

func appearanceOf(r *http.Request) Appearance {
	out := Appearance{Theme: Themes[0]}
	if c, err := r.Cookie(themeCookie); err == nil && slices.Contains(Themes, c.Value) {
		out.Theme = c.Value
	}
	c, err := r.Cookie(sideCookie)
	out.Narrow = err == nil && c.Value == narrowSide
	return out
}

// SetAppearance keeps the fields theme and side of a form.
func (s *Site) SetAppearance(r *http.Request, f *Frame) (templ.Component, error) {
	const year = 365 * 24 * 3600
	if theme := f.Form.Get("theme"); slices.Contains(Themes, theme) {
		f.cookie(http.Cookie{Name: themeCookie, Value: theme, MaxAge: year})
	}
	if side := f.Form.Get("side"); side == narrowSide {
		f.cookie(http.Cookie{Name: sideCookie, Value: side, MaxAge: year})
	} else if side != "" {
		f.cookie(http.Cookie{Name: sideCookie, MaxAge: -1})
	}
	return f.Done(SafeNext(f.Form.Get("next")), "")
}

// drawing is what components need of the site and of the browser, wherever they are
// in a page.
type drawing struct {
	Appearance
	icons map[string]string
}

type drawingKey struct{}

func withDrawing(r *http.Request, a Assets) context.Context {
	return context.WithValue(r.Context(), drawingKey{}, drawing{appearanceOf(r), a.Icons})
}

func drawingOf(ctx context.Context) drawing {
	d, ok := ctx.Value(drawingKey{}).(drawing)
	if !ok {
		d.Theme = Themes[0]
	}
	return d
}
