package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// WithUser adds to an error about a file which this process has no right to, as whom it
// runs: in a container and under systemd that is not the user who made the file.
func WithUser(err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return withUser(err, os.Geteuid(), os.Getegid(), os.Getgroups)
}

func withUser(err error, uid, gid int, more func() ([]int, error)) error {
	var known *userError
	if uid < 0 || errors.As(err, &known) { // Windows has no such numbers
		return err
	}
	groups := []int{gid}
	if others, err := more(); err == nil {
		groups = append(groups, others...)
	}
	slices.Sort(groups)
	return &userError{err, fmt.Sprintf("the exporter runs as uid %d with the groups %s: give one of them the right", uid, strings.Trim(fmt.Sprint(slices.Compact(groups)), "[]"))}
}

// userError is an error that names the user.
type userError struct {
	error

	user string
}

func (e *userError) Error() string { return e.error.Error() + " (" + e.user + ")" }

// Unwrap gives the error without the user.
func (e *userError) Unwrap() error { return e.error }
