//go:build !linux

package main

import "errors"

func mountMemory(string, int) error { return errors.New("this system has no volumes in memory") }

func unmount(string) error { return nil }
