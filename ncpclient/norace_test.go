//go:build !race

package ncpclient

const raceDetector = false
