// Command sync writes the files of deploy/ that are made from others.
//
//	sync <root of the repository>
package main

import (
	"fmt"
	"os"

	"ncp_exporter/deploy/checks/chart"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: sync <root of the repository>")
		os.Exit(2)
	}
	if err := chart.Write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
