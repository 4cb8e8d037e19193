package ncptest

import (
	"cmp"
	"encoding/json"
	"hash/fnv"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The statuses of a certificate in recentChanges, as the guide prints them.
const (
	StatusNormal             = "Normal"
	StatusOngoing            = "Ongoing"
	StatusValidationTimedOut = "Validation timed out"
)

// Change is a row of recentChanges: the state of a certificate that changed.
type Change struct {
	OrderID       string
	CertificateID int64
	Status        string
	// ChangedAt decides whether the row is inside the window that a request asks
	// for; one that lies ahead of the gateway's clock has not happened yet. Zero is
	// always inside.
	ChangedAt time.Time
}

// Subject is a row of the list of subjects. Times go out as they are; "" is null.
type Subject struct {
	SubjectID    string
	SubjectNRN   string
	X509Subject  string
	Enabled      bool
	CreateTime   string
	UpdateTime   string
	LastSeenTime string
}

// Credential is a row of a subject's history.
type Credential struct {
	Issuer              string
	SerialNumber        string
	X509CertificateData string
	Failed              *bool  // nil is null
	SeenTime            string // as it goes out; "" is null
	// Raw, if set, is the row as it goes out, whatever the other fields say.
	Raw json.RawMessage
	// At is the place of the row in time. Zero is taken from SeenTime if that can
	// be read; a row without any time is as new as the newest before it.
	At time.Time
}

// kst is Korea's time, in which NCP writes its times.
func kst() *time.Location { return time.FixedZone("KST", 9*60*60) }

// FormatTime writes a time in the documented form: milliseconds, in KST.
func FormatTime(t time.Time) string {
	return t.In(kst()).Format("2006-01-02T15:04:05.000Z07:00")
}

// NewCredential is a row in the documented form.
func NewCredential(at time.Time, serial string, failed bool) Credential {
	return Credential{
		Issuer:              "CN=QA_Root_CA, OU=IAM Service, O=NAVER Cloud Corp., L=Seongnam-si, ST=Gyeonggi-do, C=KR",
		SerialNumber:        serial,
		X509CertificateData: "{x509CertificateData}",
		Failed:              &failed,
		SeenTime:            FormatTime(at),
		At:                  at,
	}
}

// account is what the simulated account holds.
type account struct {
	mu       sync.RWMutex
	changes  []Change
	subjects map[string]*subject
	listed   []*subject // in the order in which they were put
	anchors  []TrustAnchor

	certificates []Certificate
}

type subject struct {
	Subject
	rows     []*row // oldest first
	shuffled []*row // as NoOrder wants them; nil until asked for
	seed     uint64 // of shuffled
	added    uint64
	issuer   *text // of the last row added: most rows share it
	cert     *text
}

// row is a Credential in the form in which a million of them fit: texts that
// rows share are held once, and in JSON already.
type row struct {
	issuer, cert *text
	serial, seen string
	raw          string
	at           int64 // Unix nanoseconds
	added        uint64
	place        uint64 // in the shuffle
	failed       answer
	dropped      bool
}

type text struct{ plain, json string }

// answer is a boolean that can be null.
type answer uint8

const (
	null answer = iota
	no
	yes
)

// SetChanges replaces all changes. They are answered in the given order, and one
// that is given twice comes twice.
func (s *Server) SetChanges(changes ...Change) {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	s.account.changes = slices.Clone(changes)
}

// AddChanges adds changes after those that are there.
func (s *Server) AddChanges(changes ...Change) {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	s.account.changes = append(s.account.changes, changes...)
}

// PutSubject adds a subject at the end of the list, or replaces the one with its
// id where it stands; the history is kept.
func (s *Server) PutSubject(sub Subject) {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	s.account.put(sub)
}

func (a *account) put(sub Subject) *subject {
	if held, ok := a.subjects[sub.SubjectID]; ok {
		held.Subject = sub
		return held
	}
	held := &subject{Subject: sub}
	a.subjects[sub.SubjectID] = held
	a.listed = append(a.listed, held)
	return held
}

// RemoveSubject removes a subject and its history.
func (s *Server) RemoveSubject(id string) {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	if held, ok := s.account.subjects[id]; ok {
		delete(s.account.subjects, id)
		s.account.listed = slices.DeleteFunc(s.account.listed, func(x *subject) bool { return x == held })
	}
}

// AddCredentials adds rows to a subject's history, each at its place in time. It
// moves the subject's LastSeenTime to the newest row's SeenTime, unless
// Config.FrozenLastSeen. A subject that is not there is put, with its id only.
func (s *Server) AddCredentials(subjectID string, credentials ...Credential) {
	if len(credentials) == 0 {
		return
	}
	frozen := s.settings.Load().FrozenLastSeen
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	held, ok := s.account.subjects[subjectID]
	if !ok {
		held = s.account.put(Subject{SubjectID: subjectID, Enabled: true})
	}
	held.add(credentials)
	if newest := held.rows[len(held.rows)-1]; !frozen && newest.seen != "" {
		held.LastSeenTime = newest.seen
	}
}

// TrimCredentials drops the oldest rows of a subject, as a retention does.
func (s *Server) TrimCredentials(subjectID string, keepNewest int) {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	held, ok := s.account.subjects[subjectID]
	if !ok || keepNewest < 0 || len(held.rows) <= keepNewest {
		return
	}
	cut := len(held.rows) - keepNewest
	for i, r := range held.rows[:cut] {
		r.dropped = true
		held.rows[i] = nil // the array outlives the cut
	}
	held.rows = held.rows[cut:]
	held.forget()
}

// RemoveCredentials drops the rows that drop picks, wherever they stand, and says
// how many. With AddCredentials it can move a row in time.
func (s *Server) RemoveCredentials(subjectID string, drop func(Credential) bool) int {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	held, ok := s.account.subjects[subjectID]
	if !ok {
		return 0
	}
	before := len(held.rows)
	held.rows = slices.DeleteFunc(held.rows, func(r *row) bool {
		r.dropped = drop(r.credential())
		return r.dropped
	})
	held.forget()
	return before - len(held.rows)
}

// CredentialCount is the length of a subject's history.
func (s *Server) CredentialCount(subjectID string) int {
	s.account.mu.RLock()
	defer s.account.mu.RUnlock()
	if held, ok := s.account.subjects[subjectID]; ok {
		return len(held.rows)
	}
	return 0
}

// add puts rows in their places. Newer rows than all that are held cost no more
// than themselves, which is how histories grow.
func (sub *subject) add(credentials []Credential) {
	newest := int64(0)
	if n := len(sub.rows); n > 0 {
		newest = sub.rows[n-1].at
	}
	store := make([]row, len(credentials)) // one allocation for all
	batch := make([]*row, len(credentials))
	for i := range credentials {
		c := &credentials[i]
		r := &store[i]
		batch[i] = r
		at, ok := instant(c)
		if !ok {
			at = newest
		}
		newest = max(newest, at)
		if sub.issuer == nil || sub.issuer.plain != c.Issuer {
			sub.issuer = newText(c.Issuer)
		}
		if sub.cert == nil || sub.cert.plain != c.X509CertificateData {
			sub.cert = newText(c.X509CertificateData)
		}
		*r = row{
			issuer: sub.issuer,
			cert:   sub.cert,
			serial: c.SerialNumber,
			seen:   c.SeenTime,
			raw:    string(c.Raw),
			at:     at,
			added:  sub.added,
		}
		if c.Failed != nil {
			r.failed = no
			if *c.Failed {
				r.failed = yes
			}
		}
		sub.added++
	}
	sub.rows = merge(sub.rows, batch, byTime)
	if sub.shuffled != nil {
		for _, r := range batch {
			r.place = r.hash(sub.seed)
		}
		sub.shuffled = merge(sub.shuffled, batch, byPlace)
	}
}

// shuffle makes the order of NoOrder for a seed.
func (sub *subject) shuffle(seed uint64) {
	if sub.shuffled != nil && sub.seed == seed {
		return
	}
	sub.seed = seed
	sub.shuffled = append(make([]*row, 0, len(sub.rows)), sub.rows...)
	for _, r := range sub.shuffled {
		r.place = r.hash(seed)
	}
	slices.SortFunc(sub.shuffled, byPlace)
}

// forget takes dropped rows out of the shuffle.
func (sub *subject) forget() {
	if sub.shuffled != nil {
		sub.shuffled = slices.DeleteFunc(sub.shuffled, func(r *row) bool { return r.dropped })
	}
}

func byTime(a, b *row) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.added, b.added))
}

func byPlace(a, b *row) int {
	return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.added, b.added))
}

// merge puts batch, which it sorts, into the sorted rows. It works from the end,
// so that its cost is the part of the rows that has to move.
func merge(rows, batch []*row, order func(a, b *row) int) []*row {
	slices.SortFunc(batch, order)
	old := len(rows)
	rows = append(rows, batch...)
	if old == 0 || order(rows[old-1], batch[0]) <= 0 {
		return rows
	}
	i, j := old-1, len(batch)-1
	for k := len(rows) - 1; j >= 0; k-- {
		if i >= 0 && order(rows[i], batch[j]) > 0 {
			rows[k] = rows[i]
			i--
		} else {
			rows[k] = batch[j]
			j--
		}
	}
	return rows
}

func (r *row) hash(seed uint64) uint64 {
	h := fnv.New64a()
	for _, part := range []string{r.serial, "\x00", r.seen, "\x00", r.issuer.plain, "\x00", r.raw} {
		_, _ = io.WriteString(h, part)
	}
	return mix(h.Sum64() ^ mix(seed) ^ mix(r.added))
}

func (r *row) credential() Credential {
	c := Credential{
		Issuer:              r.issuer.plain,
		SerialNumber:        r.serial,
		X509CertificateData: r.cert.plain,
		SeenTime:            r.seen,
		At:                  time.Unix(0, r.at),
	}
	if r.raw != "" {
		c.Raw = json.RawMessage(r.raw)
	}
	if r.failed != null {
		failed := r.failed == yes
		c.Failed = &failed
	}
	return c
}

// instant is a row's place in time, if it has one.
func instant(c *Credential) (int64, bool) {
	if !c.At.IsZero() {
		return c.At.UnixNano(), true
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, c.SeenTime, kst()); err == nil {
			return t.UnixNano(), true
		}
	}
	return 0, false
}

func newText(s string) *text {
	return &text{plain: s, json: string(appendString(nil, s))}
}

// endlessCredential is a made-up row of EndlessPages, older with each index.
func endlessCredential(now time.Time, i int) Credential {
	return NewCredential(now.Add(-time.Duration(i)*time.Second), "endless-"+strconv.Itoa(i), i%7 == 0)
}

// endlessSubject is a made-up subject of EndlessPages.
func endlessSubject(i int) Subject {
	id := "endless-" + strconv.Itoa(i)
	return Subject{SubjectID: id, SubjectNRN: "nrn:PUB:IAM:KR:1000000:subject/" + id, X509Subject: "CN=" + id, Enabled: true}
}
