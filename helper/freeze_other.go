//go:build !amd64

package main

import (
	"errors"
	"time"
)

func forkFrozen(guestMemory) (int, time.Duration, error) {
	return 0, 0, errors.New("freezing works on amd64 only")
}
