package subjects

import (
	"crypto/sha256"
	"sync"
	"time"

	"ncp_exporter/ncpclient"
)

// Certificate tells what is known of the certificate that a subject presented last.
type Certificate struct {
	SeenTime time.Time // of the newest row; zero if no row has a time
	ncpclient.Validity
	Err error // why Validity cannot be read; nil if it could
}

// certificates is a cache of parsed certificates, as subjects present the same ones
// again and again. It has two generations: when the young one is full, it becomes the
// old one, and what was only in the old one is dropped.
type certificates struct {
	mu         sync.Mutex
	young, old map[[sha256.Size]byte]validity
}

type validity struct {
	ncpclient.Validity
	err error
}

// minGeneration is the smallest size of a generation. Even a few subjects may present
// many certificates: a subject may have several hosts, each with its own.
const minGeneration = 1024

// read parses a certificate, or takes it from the cache; false if there is none.
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
