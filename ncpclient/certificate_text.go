package ncpclient

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// ErrUnreadableCertificate is a text that holds no certificate that can be read.
// It says nothing of the text, which is not to be in a log.
var ErrUnreadableCertificate = errors.New("there is no certificate that can be read")

// Validity is the time in which a certificate is valid.
type Validity struct{ NotBefore, NotAfter time.Time }

// ShownCertificate is the certificate that somebody logged in with
// (x509CertificateData), in whatever form it came. What it holds is to be read
// with Validity, and is not to be printed.
type ShownCertificate struct {
	SeenTime     time.Time
	SerialNumber string // opaque: decimal, hex or masked
	raw          held
}

// String keeps the certificate out of whatever is printed.
func (*ShownCertificate) String() string { return "certificate" }

// Identity is the same for two that have the same Validity.
func (c *ShownCertificate) Identity() [sha256.Size]byte {
	h := sha256.New()
	_, _ = h.Write([]byte(c.SerialNumber)) // never fails
	_, _ = h.Write([]byte{0})
	_, _ = h.Write(c.raw)
	return [sha256.Size]byte(h.Sum(nil))
}

// Validity reads the certificate. Its only error is ErrUnreadableCertificate.
func (c *ShownCertificate) Validity() (Validity, error) {
	var s text
	if err := s.UnmarshalJSON(c.raw); err != nil {
		return Validity{}, ErrUnreadableCertificate
	}
	return CertificateValidity(string(s), c.SerialNumber)
}

const (
	// maxCertificateData bounds what is kept of a row's certificate, with all of
	// its chain. Longer ones cannot be read.
	maxCertificateData = 64 << 10
	// maxChain bounds the certificates of one text that are looked at.
	maxChain = 16
)

// held is a value as it came, held until the next one comes.
type held []byte

func (h *held) UnmarshalJSON(b []byte) error {
	if len(b) > maxCertificateData {
		b = nil
	}
	*h = append((*h)[:0], b...)
	return nil
}

// CertificateValidity reads when a certificate is valid from a text: PEM or
// base64 DER, with line breaks or without, a chain too. Of a chain it is the
// certificate with the serial number (decimal, hex, or masked with *) or, if
// none has it, the one that issued no other. Its only error is
// ErrUnreadableCertificate.
func CertificateValidity(text, serialNumber string) (Validity, error) {
	chain := certificatesIn(text)
	if len(chain) == 0 {
		return Validity{}, ErrUnreadableCertificate
	}
	for _, c := range chain {
		if sameSerial(c.SerialNumber, serialNumber) {
			return c.validity(), nil
		}
	}
	for i, c := range chain {
		leaf := true
		for j, other := range chain {
			leaf = leaf && (i == j || !bytes.Equal(other.Issuer.FullBytes, c.Subject.FullBytes))
		}
		if leaf {
			return c.validity(), nil
		}
	}
	return chain[0].validity(), nil
}

// tbsCertificate is the part of a certificate that is needed here. The rest may
// be what crypto/x509 refuses (a negative serial number, an unknown curve): it
// runs out all the same.
type tbsCertificate struct {
	Version      int `asn1:"optional,explicit,default:0,tag:0"`
	SerialNumber *big.Int
	Algorithm    asn1.RawValue
	Issuer       asn1.RawValue
	Validity     struct{ NotBefore, NotAfter time.Time }
	Subject      asn1.RawValue
}

func (c *tbsCertificate) validity() Validity {
	return Validity{NotBefore: c.Validity.NotBefore.UTC(), NotAfter: c.Validity.NotAfter.UTC()}
}

// certificatesIn are the certificates of a text, in its order.
func certificatesIn(s string) []*tbsCertificate {
	if len(s) > maxCertificateData {
		return nil
	}
	var chain []*tbsCertificate
	for _, der := range derIn(s, "CERTIFICATE") {
		for len(der) > 0 && len(chain) < maxChain { // DER may follow DER too
			var outer struct{ TBS asn1.RawValue }
			rest, err := asn1.Unmarshal(der, &outer)
			if err != nil {
				break
			}
			var c tbsCertificate
			if _, err := asn1.Unmarshal(outer.TBS.FullBytes, &c); err == nil && c.plausible() {
				chain = append(chain, &c)
			}
			der = rest
		}
	}
	return chain
}

func (c *tbsCertificate) plausible() bool {
	return !c.Validity.NotAfter.Before(c.Validity.NotBefore) && c.Validity.NotAfter.Unix() > 0
}

// pemBlock is a block of PEM whose line breaks may have become blanks, or two
// characters each, or nothing.
var pemBlock = regexp.MustCompile(`(?s)-----BEGIN ([A-Z0-9 ]+)-----(.*?)(?:-----END|$)`)

// derIn are the DER values of a text: those of its PEM blocks whose type ends
// with kind or, if it is no PEM, of the text itself.
func derIn(s, kind string) [][]byte {
	if plain, err := url.PathUnescape(s); err == nil {
		s = plain // as proxies hand it on in a header
	}
	if !strings.Contains(s, "-----BEGIN") {
		if inner := unbase64(s); bytes.HasPrefix(inner, []byte("-----BEGIN")) {
			s = string(inner)
		}
	}
	if !strings.Contains(s, "-----BEGIN") {
		if der := unbase64(s); len(der) > 0 {
			return [][]byte{der}
		}
		return nil
	}
	var all [][]byte
	for _, block := range pemBlock.FindAllStringSubmatch(s, maxChain) {
		if !strings.HasSuffix(strings.TrimPrefix(block[1], "TRUSTED "), kind) {
			continue
		}
		if der := unbase64(block[2]); len(der) > 0 {
			all = append(all, der)
		}
	}
	return all
}

// unbase64 is nil for what is no base64, in either alphabet, padded or not.
func unbase64(s string) []byte {
	s = strings.NewReplacer(`\r`, "", `\n`, "", "\r", "", "\n", "", " ", "", "\t", "", "-", "+", "_", "/").Replace(s)
	der, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return nil
	}
	return der
}

// minMask is how many digits of a masked serial number must be seen.
const minMask = 6

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

// tbsCertList is the part of a CRL that is needed here.
type tbsCertList struct {
	Version    int `asn1:"optional,default:0"`
	Algorithm  asn1.RawValue
	Issuer     asn1.RawValue
	ThisUpdate time.Time
	NextUpdate time.Time `asn1:"optional"`
}

// nextUpdateIn reads when the next CRL is due from a text, PEM or base64 DER;
// zero if there is no CRL that tells.
func nextUpdateIn(s string) time.Time {
	for _, der := range derIn(s, "CRL") {
		var outer struct{ TBS asn1.RawValue }
		var list tbsCertList
		if _, err := asn1.Unmarshal(der, &outer); err != nil {
			continue
		}
		if _, err := asn1.Unmarshal(outer.TBS.FullBytes, &list); err == nil && list.NextUpdate.After(list.ThisUpdate) {
			return plausible(list.NextUpdate, maxDateYear)
		}
	}
	return time.Time{}
}
