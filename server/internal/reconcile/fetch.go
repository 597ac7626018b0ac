package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Fetcher reads bills from the APIs of providers. AWS has none for its Cost and Usage
// Report, which it writes into a bucket.
type Fetcher struct {
	// Client sends the requests. It must reach public addresses only and follow no
	// redirect, which would send the key elsewhere.
	Client *http.Client
	// Base returns the address of a provider's API, without a path. nil is the
	// provider's own; see [APIHost].
	Base func(provider string) string
	// Sleep waits before a request is repeated. nil waits on the clock.
	Sleep func(context.Context, time.Duration) error
	Now   func() time.Time // Defaults to time.Now
}

// Bounds of a fetch.
const (
	maxPages    = 200      // of one report
	maxPage     = 32 << 20 // bytes
	maxAttempts = 5
	longestWait = time.Minute
)

// Fetchable lists the providers whose bills can be fetched.
var Fetchable = []string{OpenAI, Anthropic, OpenRouter}

var apiHosts = map[string]string{OpenAI: "https://api.openai.com", Anthropic: "https://api.anthropic.com", OpenRouter: "https://openrouter.ai"}

// APIHost is the address to which a provider's admin key is sent, and no other; "" for
// providers without an API for bills.
func APIHost(provider string) string { return apiHosts[provider] }

// CheckAdminKey returns an error for a key that cannot be a provider's admin key.
func CheckAdminKey(provider, key string) error {
	switch {
	case !slices.Contains(Fetchable, provider):
		return event.Invalid("bills of this provider cannot be fetched", "store a key for "+strings.Join(Fetchable, ", ")+"; import reports of AWS as files")
	case provider == OpenAI && !strings.HasPrefix(key, "sk-admin-"):
		return event.Invalid("this is not an admin key of OpenAI", "it begins with sk-admin- (platform.openai.com: Settings, Organization, Admin keys; permission Usage: read)")
	case provider == Anthropic && !strings.HasPrefix(key, "sk-ant-admin"):
		return event.Invalid("this is not an admin key of Anthropic", "it begins with sk-ant-admin (console: Settings, Admin keys)")
	case provider == OpenRouter && !strings.HasPrefix(key, "sk-or-"):
		return event.Invalid("this is not a key of OpenRouter", "it begins with sk-or- (openrouter.ai: Settings, Management keys)")
	}
	return nil
}

// report is one report of a provider's API.
type report struct {
	feed     Feed
	path     string
	query    url.Values
	optional bool // not every account has it
}

// Fetch reads a provider's costs and usage of the UTC days in [from, to). The pages are
// returned as they came, to be imported. Its errors are [*event.Error].
func (f *Fetcher) Fetch(ctx context.Context, provider, key string, from, to time.Time) ([]File, error) {
	if err := CheckAdminKey(provider, key); err != nil {
		return nil, err
	}
	from, to = startOfDay(from), startOfDay(to)
	if !from.Before(to) || to.Sub(from) > MaxReportDays*24*time.Hour {
		return nil, event.Invalid("the period is empty or too long", "fetch 1 to 92 days at once")
	}
	if f.Now == nil {
		f = &Fetcher{f.Client, f.Base, f.Sleep, time.Now}
	}
	if last := startOfDay(f.Now()).AddDate(0, 0, 1); to.After(last) {
		to = last
	}
	if !from.Before(to) {
		return nil, event.Invalid("the period is in the future", "fetch days that have begun")
	}
	var out []File
	for _, r := range reportsOf(provider, from, to) {
		pages, err := f.pages(ctx, provider, key, r)
		if err != nil {
			return nil, err
		}
		out = append(out, pages...)
	}
	return out, nil
}

func reportsOf(provider string, from, to time.Time) []report {
	switch provider {
	case OpenAI:
		period := func(limit string, groups ...string) url.Values {
			return url.Values{"start_time": {strconv.FormatInt(from.Unix(), 10)}, "end_time": {strconv.FormatInt(to.Unix(), 10)}, "bucket_width": {"1d"}, "limit": {limit}, "group_by[]": groups}
		}
		list := []report{{OpenAICosts, "/v1/organization/costs", period("180", "line_item"), false}}
		for _, u := range []struct {
			endpoint string
			groups   []string
		}{
			{"completions", []string{"model", "batch", "service_tier"}}, {"embeddings", []string{"model"}}, {"images", []string{"model"}}, {"audio_speeches", []string{"model"}}, {"audio_transcriptions", []string{"model"}},
		} {
			list = append(list, report{usageFeed(u.endpoint), "/v1/organization/usage/" + u.endpoint, period("31", u.groups...), u.endpoint != "completions"})
		}
		return list
	case Anthropic:
		period := func(groups ...string) url.Values {
			return url.Values{"starting_at": {from.Format(time.RFC3339)}, "ending_at": {to.Format(time.RFC3339)}, "bucket_width": {"1d"}, "limit": {"31"}, "group_by[]": groups}
		}
		costs := period("description")
		return []report{{AnthropicCosts, "/v1/organizations/cost_report", costs, false}, {AnthropicUsage, "/v1/organizations/usage_report/messages", period("model", "service_tier"), false}}
	}
	return []report{{OpenRouterActivity, "/api/v1/activity", nil, false}}
}

// pages reads all pages of a report. OpenAI and Anthropic name the next one.
func (f *Fetcher) pages(ctx context.Context, provider, key string, r report) ([]File, error) {
	base := APIHost(provider)
	if f.Base != nil {
		base = f.Base(provider)
	}
	var out []File
	seen := make(map[string]bool)
	q := r.query
	for n := 1; ; n++ {
		address := base + r.path
		if len(q) > 0 {
			address += "?" + q.Encode()
		}
		body, err := f.get(ctx, provider, key, address)
		if r.optional && event.AsError(err) != nil && event.AsError(err).Code == event.CodeNotFound {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		var page struct {
			HasMore  bool   `json:"has_more"`
			NextPage string `json:"next_page"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return nil, event.NewError(event.CodeUpstream, "the answer of "+r.path+" is not JSON", "try again; if it persists, import a file", err)
		}
		out = append(out, File{Name: strings.TrimPrefix(r.path, "/") + " page " + strconv.Itoa(n), Data: body, Feed: r.feed})
		switch {
		case !page.HasMore || page.NextPage == "":
			return out, nil
		case seen[page.NextPage] || n == maxPages:
			return nil, event.NewError(event.CodeUpstream, "the pages of "+r.path+" do not end", "fetch a shorter period", nil)
		}
		seen[page.NextPage] = true
		next := url.Values{}
		for k, v := range r.query {
			next[k] = v
		}
		next.Set("page", page.NextPage)
		q = next
	}
}

// get reads one page. It tries again after 429, after failures of the server and of
// the connection, and waits as long as the provider asks for, up to a minute.
func (f *Fetcher) get(ctx context.Context, provider, key, address string) ([]byte, error) {
	wait := time.Second
	for attempt := 1; ; attempt++ {
		body, after, err := f.try(ctx, provider, key, address)
		if err == nil {
			return body, nil
		}
		e := event.AsError(err)
		if e.Code != event.CodeRateLimited && e.Code != event.CodeUpstream || attempt == maxAttempts || ctx.Err() != nil {
			return nil, err
		}
		sleep := f.Sleep
		if sleep == nil {
			sleep = sleepFor
		}
		if after == 0 {
			after, wait = wait, 2*wait
		}
		if err := sleep(ctx, min(after, longestWait)); err != nil {
			return nil, event.NewError(event.CodeCanceled, "the fetch was cancelled", "start it again", err)
		}
	}
}

func sleepFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (f *Fetcher) try(ctx context.Context, provider, key, address string) (body []byte, after time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, 0, event.NewError(event.CodeInternal, "the request cannot be made", "", err)
	}
	if provider == Anthropic {
		req.Header.Set("X-Api-Key", key)
		req.Header.Set("Anthropic-Version", "2023-06-01")
	} else {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := f.Client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address, whose query is long
		}
		return nil, 0, event.NewError(event.CodeUpstream, provider+" cannot be reached", "check the connection of hedgerow's server to the internet, or import a file", err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	switch {
	case err != nil:
		return nil, 0, event.NewError(event.CodeUpstream, "the answer of "+provider+" broke off", "try again", err)
	case len(body) > maxPage:
		return nil, 0, event.NewError(event.CodeTooLarge, "an answer of "+provider+" is too large", "fetch a shorter period", nil)
	}
	switch status := resp.StatusCode; {
	case status == http.StatusOK:
		return body, 0, nil
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return nil, 0, event.Invalid(fmt.Sprintf("%s rejects the admin key (status %d)", provider, status), "store a valid admin key with access to usage and costs; keys for calls do not have it")
	case status == http.StatusNotFound:
		return nil, 0, event.NewError(event.CodeNotFound, provider+" has no such report for this account (status 404)", "import a file", nil)
	case status == http.StatusTooManyRequests:
		return nil, retryAfter(resp.Header, f.Now), event.NewError(event.CodeRateLimited, provider+" is rate limiting hedgerow (status 429)", "try again later", nil)
	case status >= 500:
		return nil, retryAfter(resp.Header, f.Now), event.NewError(event.CodeUpstream, fmt.Sprintf("%s responds with status %d", provider, status), "try again later", nil)
	default:
		return nil, 0, event.Invalid(fmt.Sprintf("%s rejects the request (status %d)", provider, status), "fetch another period, or import a file")
	}
}

// retryAfter is how long the server asks to wait: seconds or a date; 0 if it does not.
func retryAfter(h http.Header, now func() time.Time) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n >= 0 {
		return min(time.Duration(n)*time.Second, longestWait)
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now()), 0)
	}
	return 0
}
