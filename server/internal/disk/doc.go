// Package disk watches the free space of the data folder and says what hedgerow
// has to do without before there is none left.
package disk
