package project

import "encoding/json"

// EncodeUnbound writes a connection as versions did that sealed keys under the
// name of their field alone.
func EncodeUnbound(r *Registry, c *Connection) ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	env := envelope{Record: b, Sealed: map[string]string{}}
	for name, s := range c.secrets() {
		env.Sealed[name] = (*r.ring.Load()).seal(c.key()+"/"+name, *s)
	}
	return json.Marshal(env)
}
