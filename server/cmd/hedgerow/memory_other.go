//go:build !linux

package main

func dropStartPages() error { return nil }
