package posthog

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// DeletePerson requests the connection's PostHog to delete the person with a
// distinct id and all of their events. It needs a personal key with the scope
// person:write. found is false if PostHog has no person with that id: events
// without a person, which wrappers send if there is no user, cannot be deleted.
// PostHog deletes the events later; true means that it accepted the request.
func DeletePerson(ctx context.Context, conn project.Connection, distinctID string, o QueryOptions) (found bool, err error) {
	if conn.PersonalKey.IsZero() {
		return false, event.Invalid("the connection "+conn.Name+" has no personal key, which PostHog requires to delete a person", "create one in PostHog (Settings, Personal API keys) with the scope Person Write")
	}
	host := appHost(conn, o.AppHost)
	if err := CheckHost(host, o.AllowInsecureHosts, o.Client.AllowHosts); err != nil {
		return false, err
	}
	c := newCaller(o.Client, o.AllowInsecureHosts, o.Version)
	defer c.http.CloseIdleConnections()
	// @current is pinned to the project that events go to.
	token := "token=" + url.QueryEscape(conn.ProjectKey.Reveal())
	persons := host + "/api/projects/@current/persons/"
	a, err := c.person(ctx, conn, http.MethodGet, persons+"?distinct_id="+url.QueryEscape(distinctID)+"&"+token)
	if err == nil && a.status == http.StatusOK {
		var in struct {
			Results []struct {
				UUID string `json:"uuid"`
			} `json:"results"`
		}
		if json.Unmarshal(a.body, &in) != nil || in.Results == nil {
			return false, event.NewError(event.CodeUpstream, "PostHog's answer cannot be read", "see whether the host is PostHog's", nil)
		}
		if len(in.Results) == 0 {
			return false, nil
		}
		// A distinct id belongs to one person.
		a, err = c.person(ctx, conn, http.MethodDelete, persons+url.PathEscape(in.Results[0].UUID)+"/?delete_events=true&"+token)
		if err == nil && (a.status == http.StatusNoContent || a.status == http.StatusAccepted || a.status == http.StatusOK) {
			return true, nil
		}
		if err == nil && a.status == http.StatusNotFound {
			return false, nil // another request was faster
		}
	}
	if err != nil {
		t := explain(err, host)
		code := event.CodeUpstream
		if t.code == "timeout" {
			code = event.CodeTimeout
		}
		return false, event.NewError(code, t.message, t.hint, err)
	}
	return false, refusedPerson(conn, a)
}

// person sends a request to the persons API.
func (c *caller) person(ctx context.Context, conn project.Connection, method, to string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, to, nil)
	if err != nil {
		return answer{}, fmt.Errorf("make request: %w", withoutURL(err))
	}
	req.Header.Set("User-Agent", c.agent)
	req.Header.Set("Authorization", "Bearer "+conn.PersonalKey.Reveal())
	return do(c.http, req, maxPersons, time.Now())
}

const maxPersons = 4 << 20 // bytes of an answer: a person has all of their properties

// refusedPerson describes why PostHog did not delete a person.
func refusedPerson(conn project.Connection, a answer) error {
	var in struct {
		Detail string `json:"detail"`
	}
	_ = json.Unmarshal(a.body, &in) // other answers have no detail
	const scope = "add the scope Person Write to the key in PostHog: Settings, Personal API keys"
	switch {
	case a.status == http.StatusUnauthorized:
		return event.NewError(event.CodeForbidden, "PostHog does not know the personal key of the connection "+conn.Name, "create a new one in PostHog (Settings, Personal API keys) with the scope Person Write", nil)
	case a.status == http.StatusForbidden && strings.Contains(in.Detail, "scope"):
		return event.NewError(event.CodeForbidden, "the personal key of the connection "+conn.Name+" may not delete persons", scope, nil)
	case a.status == http.StatusForbidden:
		return event.NewError(event.CodeForbidden, "the personal key of the connection "+conn.Name+" does not see the project that events go to", "make the key as a member of that project, or let it see that project", nil)
	case a.status == http.StatusTooManyRequests:
		return event.NewError(event.CodeRateLimited, "PostHog's rate limit is reached", "try again in a minute", nil)
	case a.status == http.StatusNotFound:
		return event.NewError(event.CodeNotFound, "the host of the connection "+conn.Name+" has no API for persons", "if the host is your own proxy, deleting persons needs PostHog's own address", nil)
	}
	return event.NewError(event.CodeUpstream, fmt.Sprintf("PostHog answers %d to the deletion of a person", a.status), "try again later", nil)
}
