package ncpclient

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrUnreadableCertificate is a text that holds no certificate that can be read.
// It says nothing of the text, which is not to be in a log.
var ErrUnreadableCertificate = errors.New("there is no certificate that can be read")

// Validity is the time in which a certificate is valid.
type Validity struct{ NotBefore, NotAfter time.Time }

// PresentedCertificate is the certificate that a login presented
// (x509CertificateData), in whatever form it came. What it holds is to be read
// with Validity, and is not to be printed.
type PresentedCertificate struct {
	SeenTime     time.Time
	SerialNumber string // opaque: decimal, hex or masked
	raw          held
}

// String keeps the certificate out of whatever is printed.
func (*PresentedCertificate) String() string { return "certificate" }

// Identity is the same for two that have the same Validity.
func (c *PresentedCertificate) Identity() [sha256.Size]byte {
	return sha256.Sum256(slices.Concat([]byte(c.SerialNumber), []byte{0}, c.raw))
}

// Validity reads the certificate. Its only error is ErrUnreadableCertificate.
func (c *PresentedCertificate) Validity() (Validity, error) {
	return certificateValidity(unquote(jsontext.Value(c.raw)), c.SerialNumber)
}

const (
	maxCertificateData = 64 << 10 // with all of its chain; longer ones cannot be read
	maxChain           = 16       // of it so many certificates are looked at
	minMask            = 6        // digits of a masked serial number that must be seen
)

// held is a value as it came, held until the next one comes.
type held []byte

func (h *held) set(b jsontext.Value) {
	if len(b) > maxCertificateData {
		b = nil
	}
	*h = append((*h)[:0], b...)
}

// certificateValidity reads when a certificate is valid from a text: PEM or base64
// DER. Of a chain of PEM it is the certificate with the serial number (decimal,
// hex, or masked with *) or, if none has it, the one that issued no other. Its only
// error is ErrUnreadableCertificate.
func certificateValidity(text, serialNumber string) (Validity, error) {
	chain := certificatesIn(text)
	if len(chain) == 0 {
		return Validity{}, ErrUnreadableCertificate
	}
	for _, c := range chain {
		if sameSerial(c.SerialNumber, serialNumber) {
			return c.Validity, nil
		}
	}
	leaf := slices.IndexFunc(chain, func(c *tbsCertificate) bool {
		return !slices.ContainsFunc(chain, func(other *tbsCertificate) bool {
			return other != c && bytes.Equal(other.Issuer.FullBytes, c.Subject.FullBytes)
		})
	})
	return chain[max(0, leaf)].Validity, nil
}

// tbsCertificate is the part of a certificate that is needed here. The rest may
// be what crypto/x509 refuses (a negative serial number, an unknown curve): it
// expires all the same.
type tbsCertificate struct {
	Version      int `asn1:"optional,explicit,default:0,tag:0"`
	SerialNumber *big.Int
	Algorithm    asn1.RawValue
	Issuer       asn1.RawValue
	Validity     Validity
	Subject      asn1.RawValue
}

// certificatesIn are the certificates of a text, in its order.
func certificatesIn(s string) []*tbsCertificate {
	if len(s) > maxCertificateData {
		return nil
	}
	var chain []*tbsCertificate
	for _, der := range derIn(s, "CERTIFICATE") {
		var outer struct{ TBS asn1.RawValue }
		var c tbsCertificate
		if _, err := asn1.Unmarshal(der, &outer); err != nil {
			continue
		}
		_, err := asn1.Unmarshal(outer.TBS.FullBytes, &c)
		v := &c.Validity
		v.NotBefore, v.NotAfter = v.NotBefore.UTC(), v.NotAfter.UTC()
		if err == nil && !v.NotAfter.Before(v.NotBefore) && v.NotAfter.Unix() > 0 {
			chain = append(chain, &c)
		}
	}
	return chain
}

// derIn are the DER values of a text: those of its PEM blocks of this type or, if
// it is no PEM, of the base64 that it is.
func derIn(s, blockType string) (all [][]byte) {
	if !strings.Contains(s, "-----BEGIN") {
		if der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s)); err == nil {
			all = append(all, der)
		}
		return all
	}
	for block, rest := pem.Decode([]byte(s)); block != nil && len(all) < maxChain; block, rest = pem.Decode(rest) {
		if block.Type == blockType {
			all = append(all, block.Bytes)
		}
	}
	return all
}

// sameSerial says whether a row's serial number is this one.
func sameSerial(serial *big.Int, says string) bool {
	says = strings.ToLower(strings.TrimSpace(says))
	decimal := serial.String()
	if strings.Contains(says, "*") {
		seen := strings.Trim(says, "*")
		return len(seen) >= minMask && !strings.Contains(seen, "*") &&
			(strings.Contains(decimal, seen) || strings.Contains(serial.Text(16), seen))
	}
	hex := strings.TrimLeft(strings.NewReplacer(":", "", " ", "", "0x", "").Replace(says), "0")
	return says == decimal || hex != "" && hex == serial.Text(16)
}

// nextUpdateIn reads when the next CRL is due from a text, PEM or base64 DER;
// zero if there is no CRL that tells.
func nextUpdateIn(s string) time.Time {
	for _, der := range derIn(s, "X509 CRL") {
		if list, err := x509.ParseRevocationList(der); err == nil && list.NextUpdate.After(list.ThisUpdate) {
			return plausible(list.NextUpdate, maxDateYear)
		}
	}
	return time.Time{}
}
