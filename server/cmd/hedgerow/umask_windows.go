package main

// privateFiles does nothing: on Windows a file has the rights of its folder.
func privateFiles() {}
