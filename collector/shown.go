package collector

import (
	"crypto/sha256"
	"sync"
	"time"

	"ncp_exporter/ncpclient"
)

// shown is what is known of the certificate that a subject showed last.
type shown struct {
	seen time.Time // the newest row's; zero if no row has a time
	ncpclient.Validity
	err error // why it cannot be read
}

// validities remembers the certificates that were read, as workloads show the
// same ones again and again. Of those that nobody shows any more it forgets all
// within two generations: it holds no more than twice the limit.
type validities struct {
	mu         sync.Mutex
	young, old map[[sha256.Size]byte]reading
}

type reading struct {
	ncpclient.Validity
	err error
}

// minGeneration is how many certificates are remembered however few subjects
// there are: one has several hosts, each with its own.
const minGeneration = 1024

// read reads a certificate, once.
func (v *validities) read(c *ncpclient.ShownCertificate, subjects int) reading {
	identity := c.Identity()
	v.mu.Lock()
	defer v.mu.Unlock()
	known, ok := v.young[identity]
	if ok {
		return known
	}
	if known, ok = v.old[identity]; !ok {
		known.Validity, known.err = c.Validity()
	}
	if v.young == nil || len(v.young) >= max(minGeneration, subjects) {
		v.young, v.old = make(map[[sha256.Size]byte]reading), v.young
	}
	v.young[identity] = known
	return known
}
