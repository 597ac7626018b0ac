package listen

// FileBudget is how many descriptors the parts of a process may use.
type FileBudget struct {
	Connections  int // of callers
	IdleUpstream int // kept open to providers between two calls
}

// What is kept for everything but connections of callers and to providers: the
// journal and the store with their files, the sockets of the process itself,
// deliveries.
const (
	reserveLeast = 96
	reserveMost  = 1024
)

// mostConnections bounds memory where descriptors do not: a connection costs
// some 20 KiB before it requests anything.
const mostConnections = 20_000

// ForFiles shares a limit of descriptors out. connections is how many of callers
// are wanted; 0 means as many as fit, 20,000 at most. Each may need a second
// descriptor for its provider, and there are those that wait for the next call.
// More than fit is reduced to that.
func ForFiles(limit uint64, connections int) FileBudget {
	n := int(min(limit, 1<<24))
	left := max(n-min(reserveMost, max(reserveLeast, n/8)), 20)
	room := 2 * left / 5
	if connections <= 0 {
		connections = min(room, mostConnections)
	}
	connections = min(connections, room)
	return FileBudget{Connections: connections, IdleUpstream: max(left-2*connections, left/5)}
}
