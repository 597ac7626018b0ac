package prompt

// VersionByID returns a version by its id (pv_…).
func (r *Registry) VersionByID(projectID, id string) (Version, bool) {
	s := r.b.View().projects[projectID]
	if s == nil || s.byID[id] == nil {
		return Version{}, false
	}
	return *s.byID[id], true
}
