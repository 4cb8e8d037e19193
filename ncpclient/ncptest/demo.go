package ncptest

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// demoRetention is how many rows of a history the demo keeps; busy subjects
	// reach it within the hour, so that trimming can be watched.
	demoRetention = 500
	demoLogSize   = 1000 // the demo runs for days, and nobody reads its log
	demoTick      = time.Second
	// demoOrderInterval is the time between two new certificate orders.
	demoOrderInterval = 4 * time.Minute
	demoCertificates  = 40 // the newest that stay in recentChanges
)

// Demo is a Server whose account lives: certificates are ordered and validated,
// workloads authenticate, one of them fails, history is dropped. What happens
// depends on Config.Seed and the time at NewDemo alone, not on how often Advance
// is called.
type Demo struct {
	*Server

	mu           sync.Mutex
	start        time.Time
	now          time.Time
	workloads    []*workload
	certificates []certificate
	inventory    []Certificate // beside those that were ordered
	orders       chance
	nextOrder    time.Time
	nextOrderID  int64
	nextCertID   int64
}

// workload is a subject and how it authenticates.
type workload struct {
	Subject
	appears  time.Time     // in the list of subjects
	listed   bool          // it has appeared
	interval time.Duration // between two authentications, on average; 0 is never again
	next     time.Time
	count    int
	fails    func(n int, c *chance) bool // n counts from 0
	issuer   string
	good     identity // what it shows, and what it shows when it fails
	bad      identity
	chance   chance
}

// identity is an X.509 certificate as a history shows it.
type identity struct{ serial, pem string }

// certificate is one that was ordered; its state is a matter of the time.
type certificate struct {
	order              string
	id                 int64
	ordered, validated time.Time
	outcome            string
}

// NewDemo makes a demo account as it stands at cfg.Now.
func NewDemo(cfg Config) *Demo {
	if cfg.LogSize <= 0 {
		cfg.LogSize = demoLogSize
	}
	d := &Demo{Server: New(cfg)}
	d.start = d.settings.Load().Now().Truncate(time.Millisecond)
	d.orders = newChance(cfg.Seed, "orders")
	d.castWorkloads(cfg.Seed)
	d.castCertificates()
	d.castAnchors()
	d.castInventory()
	d.Advance(d.start)
	return d
}

// Run moves the account with the gateway's clock, every second, until ctx ends.
func (d *Demo) Run(ctx context.Context) {
	ticker := time.NewTicker(demoTick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.Advance(d.settings.Load().Now())
		case <-ctx.Done():
			return
		}
	}
}

// Advance moves the account to now. The account does not go back.
func (d *Demo) Advance(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Before(d.now) {
		return
	}
	d.now = now
	for _, w := range d.workloads {
		d.advanceWorkload(w, now)
	}
	d.advanceCertificates(now)
}

func (d *Demo) advanceWorkload(w *workload, now time.Time) {
	if w.appears.After(now) {
		return
	}
	if !w.listed {
		w.listed = true
		d.PutSubject(w.Subject)
	}
	var rows []Credential
	for w.interval > 0 && !w.next.After(now) {
		rows = append(rows, w.authenticate())
		if len(rows) == demoRetention { // hours may have passed at once
			d.AddCredentials(w.SubjectID, rows...)
			d.TrimCredentials(w.SubjectID, demoRetention)
			rows = rows[:0]
		}
	}
	d.AddCredentials(w.SubjectID, rows...)
	d.TrimCredentials(w.SubjectID, demoRetention)
}

// authenticate is the workload's next row.
func (w *workload) authenticate() Credential {
	failed := w.fails(w.count, &w.chance)
	shown := w.good
	if failed {
		shown = w.bad
	}
	row := Credential{
		Issuer:              w.issuer,
		SerialNumber:        shown.serial,
		X509CertificateData: shown.pem,
		Failed:              &failed,
		SeenTime:            FormatTime(w.next),
		At:                  w.next,
	}
	w.count++
	// Between half and one and a half of the interval; no two rows at one time.
	wait := time.Duration(float64(w.interval) * (0.5 + w.chance.float()))
	w.next = w.next.Add(max(wait.Truncate(time.Millisecond), time.Millisecond))
	return row
}

// castWorkloads makes the subjects and where their histories begin.
func (d *Demo) castWorkloads(seed uint64) {
	rarely := func(p float64) func(int, *chance) bool {
		return func(_ int, c *chance) bool { return c.float() < p }
	}
	const never = 0
	cast := []struct {
		name, unit string
		interval   time.Duration
		history    int           // rows before the start
		appears    time.Duration // after the start
		last       time.Duration // before the start, of one that comes no more
		fails      func(int, *chance) bool
	}{
		{name: "payment-api", unit: "Platform", interval: 4 * time.Second, history: 260, fails: rarely(0.004)},
		{name: "order-sync", unit: "Commerce", interval: 9 * time.Second, history: 180, fails: rarely(0.01)},
		{name: "edge-gateway", unit: "Platform", interval: 6 * time.Second, history: 220, fails: rarely(0.006)},
		{name: "ledger-export", unit: "Finance", interval: 25 * time.Second, history: 90, fails: rarely(0.01)},
		// Two of its three hosts still show a certificate that has run out.
		{name: "legacy-batch", unit: "Batch", interval: 15 * time.Second, history: 120, fails: func(n int, _ *chance) bool { return n%3 != 0 }},
		{name: "partner-portal", unit: "Partners", interval: never, history: 40, last: 9 * 24 * time.Hour, fails: func(n int, _ *chance) bool { return n >= 36 }},
		{name: "fraud-scoring", unit: "Risk", interval: 5 * time.Second, appears: time.Minute, fails: func(n int, c *chance) bool { return n == 0 || c.float() < 0.01 }},
	}
	authority := newAuthority(seed, d.start)
	for i, c := range cast {
		w := &workload{
			appears:  d.start.Add(c.appears),
			interval: c.interval,
			fails:    c.fails,
			issuer:   authority.name,
			chance:   newChance(seed, c.name),
		}
		id := fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", w.chance.next()>>32, w.chance.next()>>48,
			w.chance.next()>>52, w.chance.next()>>52, w.chance.next()>>16)
		created := d.start.Add(-time.Duration(40+17*i) * 24 * time.Hour)
		if c.appears > 0 {
			created = w.appears
		}
		w.Subject = Subject{
			SubjectID:   id,
			SubjectNRN:  "nrn:PUB:ExternalAccess:KR:2600042:Subject/" + id,
			X509Subject: "CN=" + c.name + ", OU=" + c.unit + ", O=Example Corp., C=KR",
			Enabled:     c.interval != never,
			CreateTime:  FormatTime(created),
			UpdateTime:  FormatTime(created),
		}
		w.good = authority.issue(&w.chance, c.name, c.unit, d.start.AddDate(0, 0, -30), d.start.AddDate(0, 0, 60+7*i))
		w.bad = w.good
		if c.name == "legacy-batch" {
			w.bad = authority.issue(&w.chance, c.name, c.unit, d.start.AddDate(0, 0, -93), d.start.AddDate(0, 0, -3))
		}
		w.next = d.start.Add(-time.Duration(c.history) * c.interval)
		if c.appears > 0 {
			w.next = w.appears
		}
		d.workloads = append(d.workloads, w)
		if c.interval == never {
			d.farewell(w, c.history, c.last)
		}
	}
}

// farewell gives a workload that authenticates no more the history that it left.
func (d *Demo) farewell(w *workload, history int, last time.Duration) {
	w.listed = true
	w.UpdateTime = FormatTime(d.start.Add(-last + time.Hour))
	d.PutSubject(w.Subject)
	w.interval = 10 * time.Minute
	w.next = d.start.Add(-last - time.Duration(history)*w.interval)
	for range history {
		d.AddCredentials(w.SubjectID, w.authenticate())
	}
	w.interval = 0
}

// castCertificates makes the orders of the first minutes: some done, most on
// their way, one that will time out while somebody watches.
func (d *Demo) castCertificates() {
	d.nextOrderID, d.nextCertID = 410, 55980
	at := func(ordered, validated time.Duration, outcome string) {
		d.order(d.start.Add(ordered), 1, func() (time.Time, string) { return d.start.Add(validated), outcome })
	}
	at(-9*time.Hour, -8*time.Hour-48*time.Minute, StatusNormal)
	at(-5*time.Hour, -4*time.Hour-55*time.Minute, StatusNormal)
	at(-72*time.Minute, 3*time.Minute, StatusValidationTimedOut)
	at(-11*time.Minute, 40*time.Second, StatusNormal)
	at(-8*time.Minute, 95*time.Second, StatusNormal)
	at(-6*time.Minute, 150*time.Second, StatusNormal)
	at(-2*time.Minute, 4*time.Minute, StatusNormal)
	at(-time.Minute, 5*time.Minute, StatusNormal)
	d.nextOrder = d.start.Add(demoOrderInterval)
}

// castAnchors makes the authorities that the workloads' certificates come from:
// one of them runs out soon.
func (d *Demo) castAnchors() {
	day := func(days int) string { return FormatTime(d.start.AddDate(0, 0, days)) }
	d.SetTrustAnchors(
		TrustAnchor{ID: "5b0c2f6e-0a51-4c7b-9a43-a1f0c9d84e11", Name: "issuing-ca-g2", Enabled: true, NotAfter: day(9 * 365), CRLs: []CRL{{Enabled: true, NextUpdate: day(6)}}},
		TrustAnchor{ID: "8e6d1a37-52d8-4f0e-b6c5-2c7be0f3a902", Name: "partner-ca", Enabled: true, NotAfter: day(24), CRLs: []CRL{{Enabled: true, NextUpdate: FormatTime(d.start.Add(18 * time.Hour))}}},
		TrustAnchor{ID: "c3f91b74-7d2a-4e65-8f18-90d4ab6e5c33", Name: "issuing-ca-g1", NotAfter: day(-40)},
	)
}

// castInventory makes the certificates that the account has: one in use runs out
// soon, one has, and one that nobody uses will.
func (d *Demo) castInventory() {
	day := func(days int) string { return inventoryDate(d.start.AddDate(0, 0, days)) }
	d.inventory = []Certificate{
		{No: 41207, Name: "www", CommonName: "www.example.com", StatusCode: "1", NotAfter: day(211), Used: []string{"lb-1", "lb-2"}},
		{No: 41533, Name: "api", CommonName: "api.example.com", StatusCode: "1", NotAfter: day(19), Used: []string{"lb-1"}},
		{No: 40011, Name: "old-shop", CommonName: "shop.example.com", StatusCode: "-2", NotAfter: day(-12)},
		{No: 41918, Name: "staging", CommonName: "*.staging.example.com", StatusCode: "2", NotAfter: day(27)},
		{No: 42002, Name: "cdn", CommonName: "cdn.example.com", StatusCode: "3", NotAfter: day(95), Used: []string{"edge-7"}},
		{No: 42110, Name: "partners", CommonName: "partners.example.com", StatusCode: "0"},
	}
}

func inventoryDate(at time.Time) string { return at.In(kst()).Format("2006-01-02 15:04:05") }

// inInventory is a certificate that was ordered, with the status that changes tell of it.
func (c *certificate) inInventory(status string) Certificate {
	sites := []string{"shop", "mail", "login", "docs", "status", "media", "search"}
	name := sites[c.id%int64(len(sites))]
	listed := Certificate{No: c.id, Name: name, CommonName: name + ".example.com", StatusCode: "0"}
	switch status {
	case StatusNormal:
		listed.StatusCode, listed.NotAfter = "1", inventoryDate(c.validated.AddDate(1, 0, 0))
	case StatusValidationTimedOut:
		listed.StatusCode = "-4"
	}
	return listed
}

// order adds an order of n certificates.
func (d *Demo) order(ordered time.Time, n int, end func() (time.Time, string)) {
	d.nextOrderID += 1 + int64(d.orders.next()%9)
	for range n {
		d.nextCertID++
		validated, outcome := end()
		d.certificates = append(d.certificates, certificate{
			order:   strconv.FormatInt(d.nextOrderID, 10),
			id:      d.nextCertID,
			ordered: ordered, validated: validated, outcome: outcome,
		})
	}
}

func (d *Demo) advanceCertificates(now time.Time) {
	for !d.nextOrder.After(now) {
		ordered := d.nextOrder
		d.order(ordered, 1+int(d.orders.next()%3)/2, func() (time.Time, string) {
			if d.orders.float() < 0.1 {
				return ordered.Add(20 * time.Minute), StatusValidationTimedOut
			}
			return ordered.Add(time.Duration(60+240*d.orders.float()) * time.Second), StatusNormal
		})
		if drop := len(d.certificates) - demoCertificates; drop > 0 {
			d.certificates = append(d.certificates[:0], d.certificates[drop:]...)
		}
		d.nextOrder = ordered.Add(demoOrderInterval)
	}
	changes := make([]Change, 0, len(d.certificates))
	inventory := slices.Clone(d.inventory)
	for i := range d.certificates {
		c := &d.certificates[i]
		change := Change{OrderID: c.order, CertificateID: c.id, Status: StatusOngoing, ChangedAt: c.ordered}
		if !c.validated.After(now) {
			change.Status, change.ChangedAt = c.outcome, c.validated
		}
		changes = append(changes, change)
		inventory = append(inventory, c.inInventory(change.Status))
	}
	d.SetCertificates(inventory...)
	d.SetChanges(changes...)
}

// authority signs the certificates that workloads show, so that a reader of
// x509CertificateData finds what it would find in a real history. Its keys come
// from the seed: they protect nothing.
type authority struct {
	name   string
	cert   *x509.Certificate
	key    ed25519.PrivateKey
	chance chance
}

func newAuthority(seed uint64, start time.Time) *authority {
	a := &authority{
		name:   "CN=Example Issuing CA G2, OU=Security, O=Example Corp., C=KR",
		chance: newChance(seed, "authority"),
	}
	a.key = a.chance.key()
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      exampleName("Example Issuing CA G2", "Security"),
		NotBefore:    start.AddDate(-1, 0, 0),
		NotAfter:     start.AddDate(9, 0, 0),
	}
	return a
}

func exampleName(name, unit string) pkix.Name {
	return pkix.Name{
		CommonName:         name,
		OrganizationalUnit: []string{unit},
		Organization:       []string{"Example Corp."},
		Country:            []string{"KR"},
	}
}

// issue makes a certificate.
func (a *authority) issue(c *chance, name, unit string, from, to time.Time) identity {
	serial := new(big.Int).SetUint64(c.next() >> 1)
	return identity{serial: serial.String(), pem: a.sign(c.key().Public(), &x509.Certificate{
		SerialNumber: serial,
		Subject:      exampleName(name, unit),
		NotBefore:    from,
		NotAfter:     to,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})}
}

// chance is a small generator whose numbers are the same everywhere and for ever.
type chance struct{ state uint64 }

func newChance(seed uint64, name string) chance {
	state := mix(seed)
	for i := range len(name) {
		state = mix(state ^ uint64(name[i]))
	}
	return chance{state}
}

func (c *chance) next() uint64 {
	c.state++
	return mix(c.state)
}

// float is at least 0 and less than 1.
func (c *chance) float() float64 { return float64(c.next()>>11) / (1 << 53) }

func (c *chance) key() ed25519.PrivateKey {
	var seed [ed25519.SeedSize]byte
	for i := 0; i < len(seed); i += 8 {
		binary.LittleEndian.PutUint64(seed[i:], c.next())
	}
	return ed25519.NewKeyFromSeed(seed[:])
}
