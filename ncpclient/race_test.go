//go:build race

package ncpclient

const raceDetector = true
