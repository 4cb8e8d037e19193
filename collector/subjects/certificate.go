package subjects

import (
	"crypto/sha256"
	"sync"
	"time"

	"ncp_exporter/ncpclient"
)

// Certificate is what is known of the certificate that a subject presented last.
type Certificate struct {
	SeenTime time.Time // of the newest row; zero if no row has a time
	ncpclient.Validity
	Err error // why it cannot be read
}

// certificates remembers those that were read, as workloads present the same ones
// again and again. It holds at most two generations, and forgets within two those
// that nobody presents any more.
type certificates struct {
	mu         sync.Mutex
	young, old map[[sha256.Size]byte]validity
}

type validity struct {
	ncpclient.Validity
	err error
}

// minGeneration is how many certificates are remembered however few subjects
// there are: one has several hosts, each with its own.
const minGeneration = 1024

// read reads a certificate, once; false if there is none.
func (c *certificates) read(presented *ncpclient.PresentedCertificate, subjects int) (Certificate, bool) {
	if presented == nil {
		return Certificate{}, false
	}
	identity := presented.Identity()
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.young[identity]
	if !ok {
		if known, ok = c.old[identity]; !ok {
			known.Validity, known.err = presented.Validity()
		}
		if c.young == nil || len(c.young) >= max(minGeneration, subjects) {
			c.young, c.old = make(map[[sha256.Size]byte]validity), c.young
		}
		c.young[identity] = known
	}
	return Certificate{presented.SeenTime, known.Validity, known.err}, true
}
