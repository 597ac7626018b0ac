//go:build !linux

package app

func dropStartPages() error { return nil }
