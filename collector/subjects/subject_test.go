package subjects

import (
	"strconv"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"

	"ncp_exporter/ncpclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each scrape brings a list of thousands of subjects. What did not change is not kept a
// second time.
func TestWhatTheListTellsAgainIsKeptOnce(t *testing.T) {
	row := func(lastSeen int64) ncpclient.Subject {
		enabled := true // each list has its own
		return ncpclient.Subject{ID: "id", X509Subject: string([]byte("CN=x")), Enabled: &enabled, LastSeen: time.Unix(lastSeen, 0)}
	}
	s := &subject{known: &Known{ID: "id"}}
	s.listedAs(row(1))
	first := s.known
	s.listedAs(row(1))
	if s.known != first {
		t.Error("there is a new state, though the list told nothing new")
	}
	s.listedAs(row(2))
	if !s.known.LastSeen.Equal(time.Unix(2, 0)) || !first.LastSeen.Equal(time.Unix(1, 0)) {
		t.Errorf("seen last %s, and before %s", s.known.LastSeen, first.LastSeen)
	}
	if unsafe.StringData(s.known.X509Subject) != unsafe.StringData(first.X509Subject) { //nolint:gosec // only compared
		t.Error("the same name is kept twice")
	}
}

// The cache of certificates has a limit, and certificates that are presented again and
// again stay in it.
func TestCertificatesAreForgotten(t *testing.T) {
	var c certificates
	often := &ncpclient.PresentedCertificate{SerialNumber: "often"}
	for i := range 10 * minGeneration {
		c.read(&ncpclient.PresentedCertificate{SerialNumber: strconv.Itoa(i)}, 0)
		c.read(often, 0)
		if n := len(c.young) + len(c.old); n > 2*minGeneration {
			t.Fatalf("%d certificates are remembered", n)
		}
	}
	if _, ok := c.young[often.Identity()]; !ok {
		if _, ok := c.old[often.Identity()]; !ok {
			t.Error("one that is presented again and again is forgotten")
		}
	}
}
