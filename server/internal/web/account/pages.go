package account

import (
	"net/netip"
	"sync"

	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// Pages are the handlers of these pages.
type Pages struct {
	*page.Site
	proxies []netip.Prefix // whose X-Forwarded-For is trusted, in addition to loopback if PublicURL is of another host

	tries      *tries    // of signing in
	unbelieved sync.Once // a proxy that is not believed has been logged
}

// New returns the pages.
func New(s *page.Site, proxies []netip.Prefix) *Pages {
	return &Pages{Site: s, proxies: proxies, tries: newTries(s.Now)}
}

// Routes returns the routes of these pages.
func (s *Pages) Routes() []page.Route {
	const viewer = project.RoleViewer
	return []page.Route{
		{Pattern: "GET /sign-in", Open: s.signInPage},
		{Pattern: "POST /sign-in", Open: s.signIn},
		{Pattern: "POST /sign-in/link", Open: s.signInLink},
		{Pattern: "POST /sign-out", Open: s.signOut},

		{Pattern: "POST /appearance", Need: viewer, Handle: s.SetAppearance},
		{Pattern: "GET /welcome", Need: viewer, Handle: s.welcome},
		{Pattern: "POST /welcome", Need: viewer, Handle: s.setUp, Again: s.welcome},

		{Pattern: "GET /account", Need: viewer, Handle: s.account},
		{Pattern: "POST /account", Need: viewer, Handle: s.saveAccount, Again: s.account},
		{Pattern: "POST /account/password", Need: viewer, Handle: s.changePassword, Again: s.account},
		{Pattern: "POST /account/sign-out-everywhere", Need: viewer, Handle: s.signOutEverywhere, Again: s.account},
		{Pattern: "POST /account/sessions/{session}/revoke", Need: viewer, Handle: s.revokeSession, Again: s.account},
	}
}
