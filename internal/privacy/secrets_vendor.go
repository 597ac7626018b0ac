package privacy

// Secrets without a distinctive format are recognized by the name that they are
// assigned to, if that names a vendor, and by the vendor's alphabet and length.
// These pairs are those of gitleaks v8.30.1 (see secrets_table.go), without the ids
// that are no secrets.
var vendors = func() map[string][]*format {
	t := make(map[string][]*format)
	for _, r := range []struct {
		names    []string
		patterns []string
	}{
		{[]string{"adafruit"}, []string{"<w32>"}},
		{[]string{"airtable"}, []string{"<a17>"}},
		{[]string{"algolia"}, []string{"<l32>"}},
		{[]string{"alibaba"}, []string{"<l30>"}},
		{[]string{"asana"}, []string{"<l32>"}},
		{[]string{"atlassian", "jira", "confluence"}, []string{"<a24>"}},
		{[]string{"beamer"}, []string{"b_<s44>"}},
		{[]string{"bitbucket"}, []string{"<l32>", "<s64>"}},
		{[]string{"bittrex"}, []string{"<l32>"}},
		{[]string{"cloudflare"}, []string{"<w40>", "<h37>"}},
		{[]string{"codecov", "droneci", "flickr"}, []string{"<l32>"}},
		{[]string{"cohere", "zendesk", "gitter"}, []string{"<w40>"}},
		{[]string{"coinbase"}, []string{"<w64>"}},
		{[]string{"confluent"}, []string{"<a16>", "<a64>"}},
		{[]string{"contentful"}, []string{"<s43>"}},
		{[]string{"datadog"}, []string{"<l40>", "<h32>"}},
		{[]string{"discord"}, []string{"<h64>", "<s32>"}},
		{[]string{"dropbox"}, []string{"<l15>", "<s64>"}},
		{[]string{"etsy", "plaid", "looker"}, []string{"<l24>", "<l30>"}},
		{[]string{"facebook"}, []string{"<h32>"}},
		{[]string{"fastly"}, []string{"<s32>"}},
		{[]string{"finicity"}, []string{"<h32>", "<l20>"}},
		{[]string{"finnhub"}, []string{"<l20>"}},
		{[]string{"freshbooks", "linode"}, []string{"<l64>"}},
		{[]string{"gocardless"}, []string{"live_<s40>"}},
		{[]string{"heroku", "hubspot", "snyk", "squarespace", "sendbird"}, []string{"<x8>-<x4>-<x4>-<x4>-<x12>"}},
		{[]string{"intercom"}, []string{"<s60>"}},
		{[]string{"jfrog", "artifactory", "bintray", "xray"}, []string{"<a73>", "<a64>"}},
		{[]string{"kraken"}, []string{"<p80-90>"}},
		{[]string{"kucoin"}, []string{"<h24>", "<x8>-<x4>-<x4>-<x4>-<x12>"}},
		{[]string{"launchdarkly"}, []string{"<s40>"}},
		{[]string{"linkedin"}, []string{"<a16>"}},
		{[]string{"lob"}, []string{"live_<h35>", "test_<h35>"}},
		{[]string{"mailgun"}, []string{"<h32>-<h8>-<h8>", "key-<h32>"}},
		{[]string{"mattermost"}, []string{"<l26>"}},
		{[]string{"messagebird"}, []string{"<a25>"}},
		{[]string{"meraki", "deepgram"}, []string{"<h40>"}},
		{[]string{"netlify"}, []string{"<s40-46>"}},
		{[]string{"newrelic"}, []string{"<a64>"}},
		{[]string{"nytimes", "mistral"}, []string{"<a32>"}},
		{[]string{"okta"}, []string{"00<s40>"}},
		{[]string{"pagerduty"}, []string{"<s20>"}},
		{[]string{"privateai"}, []string{"<l32>"}},
		{[]string{"rapidapi"}, []string{"<w50>"}},
		{[]string{"sentry"}, []string{"<h64>"}},
		{[]string{"sonar"}, []string{"<s40>"}},
		{[]string{"sourcegraph"}, []string{"<h40>"}},
		{[]string{"sumo", "sumologic"}, []string{"<a64>", "su<a12>"}},
		{[]string{"travis"}, []string{"<a22>"}},
		{[]string{"twitch"}, []string{"<l30>"}},
		{[]string{"twitter"}, []string{"<a25>", "<a45>", "<a50>", "<d15-25>-<a20-40>"}},
		{[]string{"yandex"}, []string{"YC<w38>"}},
	} {
		for _, p := range r.patterns {
			fm := &format{pieces: compile(p)}
			for _, n := range r.names {
				t[n] = append(t[n], fm)
			}
		}
	}
	return t
}()

// vendorOf looks for a vendor among the words of a name; its name may consist
// of two of them (new_relic).
func vendorOf(name []byte) (list []*format, vendor string) {
	var buf [64]byte
	flat := buf[:0]
	prev, start := -1, 0
	for i := 0; i <= len(name); i++ {
		var cl uint16
		if i < len(name) {
			cl = class[name[i]]
		}
		if i == len(name) || cl&alnum == 0 || cl&upper != 0 && i > 0 && class[name[i-1]]&low != 0 {
			if len(flat) > start {
				if l := vendors[string(flat[start:])]; l != nil {
					return l, string(flat[start:]) + "_key"
				}
				if prev >= 0 {
					if l := vendors[string(flat[prev:])]; l != nil {
						return l, string(flat[prev:]) + "_key"
					}
				}
				prev, start = start, len(flat)
			}
			if cl&alnum == 0 {
				continue
			}
		}
		if len(flat) == cap(flat) {
			return nil, ""
		}
		flat = append(flat, lower(name[i]))
	}
	return nil, ""
}

// ofVendor reports whether the value has a form of the vendor's secrets and is
// not a word.
func (f *finder) ofVendor(v *value, kind nameKind) bool {
	tok := v.text()
	n, _, _ := kinds(tok)
	if n[0] == 0 || n[1]+n[2] == 0 || reference(tok) || !scattered(tok) {
		return false
	}
	inner := finder{b: tok}
	for _, fm := range kind.vendor {
		r := tokenReader{finder: &inner}
		ok := true
		for k := range fm.pieces {
			ok = ok && r.piece(&fm.pieces[k])
		}
		if ok && r.q == len(tok) {
			return true
		}
	}
	return false
}
