// Package httpbody reads and decompresses the bodies of untrusted requests, within
// limits of size, time and memory.
//
// [Memory] is the memory shared by all requests. A request opens an [Exchange] on
// it, reads and decodes its body, reserves what parsing needs, and ends it when its
// events are in the journal: the events point into its buffers, which are reused. A
// [Refusal] is why a request is rejected, with a message for the client.
//
// Limits apply before allocation: a Content-Length alone costs nothing, a
// decompression bomb stops at the limit, and when the memory is used up a request
// waits briefly for others before it is rejected. [Warnings] logs refusals, at
// most once a minute for each reason.
package httpbody
