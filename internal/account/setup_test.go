package account

import (
	"net/url"
	"testing"
)

func TestUsableProxy(t *testing.T) {
	for address, usable := range map[string]bool{
		"http://proxy.example:3128":          true,
		"http://http.example":                true,
		"http://http://user:pw@proxy:port":   false, // as it comes for HTTPS_PROXY=http://user:pw@proxy:port
		"http://https://user:pw@proxy.x:y/z": false,
	} {
		proxy, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := usableProxy(proxy, nil); (err == nil) != usable || usable && got != proxy {
			t.Errorf("%s: %v, error %v", address, got, err)
		}
	}
	if proxy, err := usableProxy(nil, nil); proxy != nil || err != nil {
		t.Errorf("none: %v, %v", proxy, err)
	}
}
