// Package image makes the container image: a base layer from Debian packages of fixed
// versions, and a layer with the binary, as an OCI layout.
//
//   - debian.go, debian.lock: the packages, fetched by apt-get and checked.
//   - rootfs.go: which of their files are in the base layer, and what else is.
//   - layout.go: layers, configuration and layout; the same input is the same digest.
//   - unpack.go: a layout's layers as a folder, for tests.
package image
