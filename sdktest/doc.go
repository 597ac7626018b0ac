// Package sdktest tests hedgerow's Go SDK with the client libraries that people
// use it with. It is its own module, so that programs which import the SDK need
// none of them.
package sdktest
