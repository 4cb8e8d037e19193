package config

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestWithUser(t *testing.T) {
	denied := fmt.Errorf("open keys: %w", fs.ErrPermission)
	groups := func() ([]int, error) { return []int{7, 5, 7}, nil }
	unknown := func() ([]int, error) { return nil, errors.New("no groups here") }
	for name, test := range map[string]struct {
		got  error
		want string
	}{
		"denied":        {withUser(denied, 65532, 6, groups), "open keys: permission denied (the exporter runs as uid 65532 with the groups 5 6 7: give one of them the right)"},
		"twice":         {withUser(fmt.Errorf("file: %w", withUser(denied, 1, 2, unknown)), 1, 2, groups), "file: open keys: permission denied (the exporter runs as uid 1 with the groups 2: give one of them the right)"},
		"no numbers":    {withUser(denied, -1, -1, groups), "open keys: permission denied"},
		"another error": {WithUser(fs.ErrNotExist), "file does not exist"},
	} {
		if test.got.Error() != test.want {
			t.Errorf("%s: %q, want %q", name, test.got, test.want)
		}
	}
	if WithUser(nil) != nil || !errors.Is(withUser(denied, 1, 1, groups), fs.ErrPermission) {
		t.Error("it makes an error of none, or another error of one")
	}
}
