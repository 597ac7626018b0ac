package project

// CheckConnection brings a connection into normal form and reports what is
// wrong with it, without saving it: what a test before saving needs.
func (r *Registry) CheckConnection(c *Connection) error { return r.checkConnection(c) }
