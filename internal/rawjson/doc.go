// Package rawjson reads and writes JSON text without decoding it into Go values:
// the members of an object, the elements of an array, the text of a string, a
// string in quotes. Nothing here recurses.
package rawjson
