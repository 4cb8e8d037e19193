package ncptest

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"time"
)

// NewCertificate is a certificate as PEM, the same for the same arguments. Its
// key is made up and protects nothing.
func NewCertificate(serial int64, from, to time.Time) string {
	a := newAuthority(0, from)
	return a.sign(a.key.Public(), &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      exampleName("certificate", "Test"),
		NotBefore:    from,
		NotAfter:     to,
	})
}

// sign gives PEM. Should it ever fail, that is the placeholder of the guide: a
// demo shall not die of its scenery.
func (a *authority) sign(public crypto.PublicKey, template *x509.Certificate) string {
	der, err := x509.CreateCertificate(nil, template, a.cert, public, a.key)
	if err != nil {
		return "{x509CertificateData}"
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
