// Package binary makes the files of a release: hedgerow's binary for each platform in
// an archive, a list of what is in it (CycloneDX), the archives' checksums and the
// statement of how they were built (in-toto, SLSA provenance).
//
//   - target.go: the platforms and their C compilers; the build.
//   - archive.go: archives and checksums.
//   - sbom.go: components, from what the binary says of its modules.
//   - provenance.go: the statement.
package binary
