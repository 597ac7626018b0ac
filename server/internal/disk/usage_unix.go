//go:build unix

package disk

import "golang.org/x/sys/unix"

// Of returns the usage of the file system that a folder is on.
func Of(dir string) (Usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Usage{}, err
	}
	block := uint64(st.Bsize) // its type differs between systems
	return Usage{Free: int64(uint64(st.Bavail) * block), Total: int64(uint64(st.Blocks) * block)}, nil
}
