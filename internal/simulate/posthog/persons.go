package posthog

import (
	"net/http"
	"slices"

	"github.com/google/uuid"
)

// PersonUUID is the uuid of the person with a distinct id: the same in all
// projects of this server, which never merges persons.
func PersonUUID(distinctID string) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(distinctID)).String()
}

// DeletedPersons lists the distinct ids of the persons whose deletion was
// requested, in order.
func (s *Server) DeletedPersons() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.deleted)
}

// persons are the distinct ids of a project that have a person: those of events
// that process one.
func (s *Server) persons(p Project) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, e := range s.events {
		if e.ProjectID == p.ID && e.Text("$process_person_profile") != "false" && !slices.Contains(ids, e.DistinctID) && !slices.Contains(s.deleted, e.DistinctID) {
			ids = append(ids, e.DistinctID)
		}
	}
	return ids
}

// findPersons serves GET …/persons/?distinct_id=.
func (s *Server) findPersons(w http.ResponseWriter, r *http.Request, p Project) {
	list := []any{}
	for i, id := range s.persons(p) {
		if want := r.URL.Query().Get("distinct_id"); want == "" || want == id {
			list = append(list, map[string]any{"id": i + 1, "uuid": PersonUUID(id), "name": id, "distinct_ids": []string{id}, "properties": map[string]any{}})
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"next": nil, "previous": nil, "results": list})
}

// deletePerson serves DELETE …/persons/{uuid}/. The person is deleted
// immediately; with delete_events=true their events are too, where the real
// server queues the deletion.
func (s *Server) deletePerson(w http.ResponseWriter, r *http.Request, p Project, id string) {
	for _, distinct := range s.persons(p) {
		if PersonUUID(distinct) != id {
			continue
		}
		s.mu.Lock()
		s.deleted = append(s.deleted, distinct)
		if r.URL.Query().Get("delete_events") == "true" {
			s.events = slices.DeleteFunc(s.events, func(e *Event) bool { return e.ProjectID == p.ID && e.DistinctID == distinct })
		}
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
		return
	}
	drf(w, http.StatusNotFound, "invalid_request", "not_found", "Not found.")
}
