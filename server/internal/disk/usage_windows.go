package disk

import "golang.org/x/sys/windows"

// Of returns the usage of the volume that a folder is on.
func Of(dir string) (Usage, error) {
	p, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return Usage{}, err
	}
	var free, total uint64
	if err := windows.GetDiskFreeSpaceEx(p, &free, &total, nil); err != nil {
		return Usage{}, err
	}
	return Usage{Free: int64(free), Total: int64(total)}, nil
}
