package query

// Moments are the sums, over the users of one arm, of which every figure of an
// experiment is made. A user u has y, what is counted (tasks that were solved,
// dollars), and n, among what (tasks, calls). One user with many calls is one
// observation (y, n): calls of one user resemble each other, and statistics that
// took them for independent would be too sure of themselves.
//
// The figure itself is the ratio of the sums, Y / N: a rate, a mean, a cost per
// task.
type Moments struct {
	Users float64 `json:"users"` // that have an n or a y
	N     float64 `json:"n"`     // Σ n
	Y     float64 `json:"y"`     // Σ y
	NN    float64 `json:"nn"`    // Σ n²
	YY    float64 `json:"yy"`    // Σ y²
	NY    float64 `json:"ny"`    // Σ n·y
}

// Add counts one user.
func (m *Moments) Add(y, n float64) {
	m.Users++
	m.N += n
	m.Y += y
	m.NN += n * n
	m.YY += y * y
	m.NY += n * y
}
