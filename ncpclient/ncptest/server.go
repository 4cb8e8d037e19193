package ncptest

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// The key pair that a Server accepts unless its Config names others. It opens
// nothing but a simulated account.
const (
	DemoAccessKey = "ncp_demo_AccessKey00"
	DemoSecretKey = "ncp_demo_SecretKey0123456789abcdef000000" //nolint:gosec // a made-up key of a simulated account
)

// Headers of the gateway.
const (
	headerTimestamp = "X-Ncp-Apigw-Timestamp"
	headerAccessKey = "X-Ncp-Iam-Access-Key"
	headerSignature = "X-Ncp-Apigw-Signature-V2"
	headerOrigin    = "X-Ncp-Apigw-Response-Origin"
	headerTrace     = "X-Ncp-Trace-Id"

	originGateway  = "APIGW"
	originEndpoint = "ENDPOINT"
)

const (
	certificateManagerPath = "/api/v2"
	externalAccessPath     = "/api/v1"

	clockTolerance  = 5 * time.Minute
	defaultPageSize = 20
	defaultLogSize  = 100_000

	// closeGrace bounds how long Close waits for connections to wind up: a hook
	// may call Close itself, and must not wait for its own request for ever.
	closeGrace = time.Second
)

// Operation is an API operation, by the name that the exporter's metrics use.
// A request of an unknown path has the operation "".
type Operation string

// The operations that the exporter reads.
const (
	RecentChanges Operation = "recentChanges"
	Subjects      Operation = "subjects"
	Credentials   Operation = "credentials"
	TrustAnchors  Operation = "trustAnchors"
	CRLs          Operation = "crls"
	Certificates  Operation = "certificates"
)

// Order is the order of the rows in a subject's history. The real one is not
// documented, so a client must live with each.
type Order int

// The orders that a history can come in.
const (
	NewestFirst Order = iota
	OldestFirst
	// NoOrder is a shuffle that stays: a row's place depends on the row and
	// Config.Seed alone, so that paging through a quiet history sees each row once.
	NoOrder
)

// String names the order, for the names of subtests.
func (o Order) String() string {
	switch o {
	case NewestFirst:
		return "NewestFirst"
	case OldestFirst:
		return "OldestFirst"
	case NoOrder:
		return "NoOrder"
	default:
		return "Order(" + strconv.Itoa(int(o)) + ")"
	}
}

// Key is a key pair that the gateway accepts.
type Key struct {
	AccessKey string
	SecretKey string
	// SubAccount marks a Sub Account's key: Certificate Manager 2.0 refuses it
	// with HTTP 403 and no body.
	SubAccount bool
	// Denied operations are answered with 401 and errorCode 210.
	Denied []Operation
}

// Config is how a Server behaves. Its zero value is a well-behaved NCP.
type Config struct {
	// Keys are the accepted keys. None at New means the demo key.
	Keys []Key
	// Now is the gateway's clock: of the signature window, the Date header and the
	// window of recentChanges. nil is time.Now.
	Now func() time.Time
	// Order is the order of a subject's credentials. Subjects come in the order
	// in which they were put.
	Order Order
	// MaxPageSize clamps a larger size; the answer's pageSize tells. 0 is no limit.
	MaxPageSize int
	// RefusePageSizeAbove answers a larger size with HTTP 400. 0 is off.
	RefusePageSizeAbove int
	// CertificatePagesFrom is the number of the first page of certificates: no
	// document tells whether it is 0 or 1.
	CertificatePagesFrom int
	// Latency passes before each answer, faults included.
	Latency time.Duration
	// RateLimit is requests a second over all operations, in real time; beyond it
	// a request gets 429 with errorCode 420. 0 is no limit.
	RateLimit float64
	// RateBurst is how many requests may come at once under RateLimit; at least 1.
	RateBurst int
	// RetryAfter is sent with a 429 of the rate limit, in whole seconds rounded up.
	// 0 sends no such header.
	RetryAfter time.Duration
	// Seed decides everything that looks like chance.
	Seed uint64
	// FrozenLastSeen keeps AddCredentials from moving a subject's LastSeenTime.
	FrozenLastSeen bool
	// LogSize bounds the log that Requests returns. 0 is 100,000.
	LogSize int

	// The lies below concern the pages of LiesOnlyFor, or all pages if it is empty.
	LiesOnlyFor Operation
	// LyingTotal is added to totalElements, which does not go below 0.
	LyingTotal int
	// EndlessPages makes every page full of made-up rows, and the total always a
	// page ahead of the reader.
	EndlessPages bool
	// RepeatPage answers every page with the rows of the first.
	RepeatPage bool
	// EnvelopeOnPage answers HTTP 200 with an error envelope instead of a page.
	EnvelopeOnPage bool
}

func (c *Config) lies(op Operation) bool {
	return c.LiesOnlyFor == "" || c.LiesOnlyFor == op
}

// Request is what a Server notes about a request.
type Request struct {
	Op        Operation
	SubjectID string // of Credentials
	AnchorID  string // of CRLs
	Page      int    // as asked for; -1 if it was no number
	Size      int    // as asked for, 20 if absent; -1 if it was no number
	N         int    // counts the requests of this operation, from 1
	Time      time.Time
	Status    int    // 0 while there is no answer, or when none was sent at all
	Query     string // as sent
	AccessKey string // as sent
}

// Server is a simulated NCP. Make one with New; it is safe for concurrent use.
// It serves by itself after Start or StartTLS, and as an [http.Handler] anywhere.
type Server struct {
	settings atomic.Pointer[settings]
	account  account
	buffers  sync.Pool

	inFlight    atomic.Int64
	maxInFlight atomic.Int64
	unsigned    atomic.Int64
	sequence    atomic.Uint64 // for trace ids

	mu        sync.Mutex
	fault     Fault
	onRequest func(Request)
	counts    map[Operation]int
	log       []Request
	logged    uint64 // requests ever logged; the newest is at (logged-1) % size
	bucket    bucket
	listening *listening
	address   string // kept over Close, so that Start comes back at the same place
	scheme    string
}

// settings is a Config and what follows from it; it is replaced, never changed,
// so that a request sees one state from beginning to end.
type settings struct {
	Config
	keys map[string]Key
}

// New makes a Server with an empty account.
func New(cfg Config) *Server {
	if len(cfg.Keys) == 0 {
		cfg.Keys = []Key{{AccessKey: DemoAccessKey, SecretKey: DemoSecretKey}}
	}
	s := &Server{
		counts:  make(map[Operation]int),
		buffers: sync.Pool{New: func() any { return new([]byte) }},
	}
	s.account.subjects = make(map[string]*subject)
	s.store(cfg)
	return s
}

func (s *Server) store(cfg Config) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.LogSize <= 0 {
		cfg.LogSize = defaultLogSize
	}
	cfg.Keys = slices.Clone(cfg.Keys)
	st := &settings{Config: cfg, keys: make(map[string]Key, len(cfg.Keys))}
	for _, k := range cfg.Keys {
		st.keys[k.AccessKey] = k
	}
	s.settings.Store(st)
}

// Configure changes the configuration while the Server runs. Requests that have
// begun keep the former one. LogSize is fixed at New.
func (s *Server) Configure(change func(*Config)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg := s.settings.Load().Config
	size := cfg.LogSize
	cfg.Keys = slices.Clone(cfg.Keys)
	change(&cfg)
	cfg.LogSize = size
	s.store(cfg)
}

// SetKeys replaces the accepted keys, as a rotation does. With none, every key
// is refused.
func (s *Server) SetKeys(keys ...Key) {
	s.Configure(func(c *Config) { c.Keys = keys })
}

// Key is the first of the accepted keys, the zero Key if there is none.
func (s *Server) Key() Key {
	if keys := s.settings.Load().Keys; len(keys) > 0 {
		return keys[0]
	}
	return Key{}
}

// SetFault has f consulted at each request, after it was counted and before its
// signature is checked. nil clears it.
func (s *Server) SetFault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// OnRequest sets a hook that is called at each request before its answer is
// made, with no lock held: it may change the account between two pages.
// nil clears it.
func (s *Server) OnRequest(hook func(Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onRequest = hook
}

// Requests is the log, oldest first, of the last requests (Config.LogSize).
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logged <= uint64(len(s.log)) {
		return slices.Clone(s.log)
	}
	head := int(s.logged % uint64(len(s.log))) //nolint:gosec // less than an int
	return append(slices.Clone(s.log[head:]), s.log[:head]...)
}

// Count is how many requests of an operation came.
func (s *Server) Count(op Operation) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[op]
}

// MaxInFlight is how many requests were being answered at one time, at most. A
// request is no longer in flight when the last of its answer goes out, since from
// there on the client may rightly send the next.
func (s *Server) MaxInFlight() int { return int(s.maxInFlight.Load()) }

// Unsigned is how many requests were refused for their signing headers: missing
// ones, an unknown key, a wrong signature or a clock too far off.
func (s *Server) Unsigned() int { return int(s.unsigned.Load()) }

// ResetStats empties the log and sets all counts to 0.
func (s *Server) ResetStats() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.counts)
	s.log, s.logged = nil, 0
	s.maxInFlight.Store(s.inFlight.Load())
	s.unsigned.Store(0)
}
