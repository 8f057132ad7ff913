package rig

import (
	"context"
	"errors"
)

// plainImage is a Docker image with a small Debian in it.
func (r *Rig) plainImage(_ context.Context) (string, error) {
	return "", errors.New("no image yet")
}
