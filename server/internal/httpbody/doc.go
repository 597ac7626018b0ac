// Package httpbody reads the bodies of requests that anyone may send: within bounds,
// in time, and undone of their compression.
//
// [Memory] is what all requests together may hold. A request opens an [Exchange]
// on it, reads and decodes its body within, takes what parsing will cost, and ends
// it when its events are in the journal: what it has read lies in buffers that are
// used again. A [Refusal] is why a request is not taken, in words for the client.
//
// The bounds are there before the bytes: a length that is only announced costs
// nothing, a bomb stops at the limit of what it may become, and where the memory
// is used up a request waits a moment for another's before it is told to come
// back. [Warnings] tell the log of it, not too often.
package httpbody
