package ncpclient

import (
	"errors"
	"iter"
)

// maxWalks is how often a list is read until nothing moved meanwhile.
const maxWalks = 3

// ReadAll reads a list, from its begin on again if it changed in a way that may
// have hidden a row.
func ReadAll[T any](pages iter.Seq2[Page[T], error]) ([]T, error) {
	for walk := 1; ; walk++ {
		rows, err := readOnce(pages)
		moved := errors.Is(err, ErrListChanged) || errors.Is(err, ErrPageRepeated)
		if !moved || walk == maxWalks {
			return rows, err
		}
	}
}

func readOnce[T any](pages iter.Seq2[Page[T], error]) (rows []T, err error) {
	for page, err := range pages {
		if err != nil {
			return nil, err
		}
		rows = append(rows, page.Rows...)
	}
	return rows, nil
}
