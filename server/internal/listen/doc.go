// Package listen bounds what connections can take from a server: how many there
// are, how many of one address, how long one may take to say what it wants, and how
// slowly it may send it.
//
// The promise: descriptors remain for the rest of the process, however many
// clients connect, and no call in progress ever fails because of it. A
// connection too many is answered 503 with Connection: close; before that,
// connections are closed: on which nothing is asked: those that have sent no
// complete header for a second, the oldest first, and then those that are idle
// between two calls, the longest idle first, since the least likely to be used
// again at this moment; and last those whose caller has taken nothing of the
// answer for 30 s.
//
//   - [Limiter] (limiter.go) counts over all listeners of the process.
//   - [ForFiles] (files.go) shares a number of descriptors out.
//   - [Body] (rate.go) cuts uploads that hardly move.
package listen
