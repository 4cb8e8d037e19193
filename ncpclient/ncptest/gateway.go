package ncptest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// exchange is one request and what its handlers need to know of the Server. It
// travels in the request's context, so that a fault can be a plain handler.
type exchange struct {
	server *Server
	*settings
	request Request
	route   route
	entry   uint64 // in the log, from 1
	trace   string
	leave   func()
}

type exchangeKey struct{}

// exchangeOf is the exchange of a request, nil if no Server made it.
func exchangeOf(r *http.Request) *exchange {
	ex, _ := r.Context().Value(exchangeKey{}).(*exchange)
	return ex
}

// ServeHTTP answers as NCP does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	leave := s.enter()
	defer leave()

	ex := &exchange{server: s, settings: s.settings.Load(), route: parseRoute(r), leave: leave}
	ex.trace = fmt.Sprintf("%016x", mix(ex.Seed+s.sequence.Add(1)))
	hook, fault := s.note(ex, r)
	ctx := context.WithValue(r.Context(), exchangeKey{}, ex)
	r = r.WithContext(ctx)
	w.Header().Set("Date", ex.Now().UTC().Format(http.TimeFormat))
	w.Header().Set(headerTrace, ex.trace)
	w = &recorder{ResponseWriter: w, exchange: ex}

	if hook != nil {
		hook(ex.request)
	}
	if ex.Latency > 0 && !pause(ctx, ex.Latency) {
		panic(http.ErrAbortHandler) // nobody is there to answer
	}
	if fault != nil {
		if h := fault(ex.request); h != nil {
			h.ServeHTTP(w, r)
			return
		}
	}
	ex.answer(w, r)
}

// enter counts a request as in flight until the function that it returns is
// called, for the first time.
func (s *Server) enter() (leave func()) {
	now := s.inFlight.Add(1)
	for {
		most := s.maxInFlight.Load()
		if now <= most || s.maxInFlight.CompareAndSwap(most, now) {
			break
		}
	}
	left := false // one goroutine serves a request
	return func() {
		if !left {
			left = true
			s.inFlight.Add(-1)
		}
	}
}

// note counts and logs a request, and says who wants to be asked about it.
func (s *Server) note(ex *exchange, r *http.Request) (func(Request), Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[ex.route.op]++
	ex.request = Request{
		Op:        ex.route.op,
		SubjectID: ex.route.subjectID,
		AnchorID:  ex.route.anchorID,
		Page:      ex.route.page,
		Size:      ex.route.size,
		N:         s.counts[ex.route.op],
		Time:      ex.Now(),
		Query:     r.URL.RawQuery,
		AccessKey: r.Header.Get(headerAccessKey),
	}
	if len(s.log) < ex.LogSize {
		s.log = append(s.log, ex.request)
	} else {
		s.log[s.logged%uint64(len(s.log))] = ex.request
	}
	s.logged++
	ex.entry = s.logged
	return s.onRequest, s.fault
}

// noteStatus completes a request's entry in the log, unless it has gone.
func (s *Server) noteStatus(ex *exchange, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ex.entry > s.logged || s.logged-ex.entry >= uint64(len(s.log)) {
		return
	}
	entry := &s.log[(ex.entry-1)%uint64(len(s.log))]
	if entry.Op == ex.request.Op && entry.N == ex.request.N { // not after ResetStats
		entry.Status = status
	}
}

// recorder notes the status in the log before the client can see it.
type recorder struct {
	http.ResponseWriter
	exchange *exchange
	wrote    bool
}

func (w *recorder) WriteHeader(status int) {
	if !w.wrote && status >= http.StatusOK {
		w.wrote = true
		w.exchange.server.noteStatus(w.exchange, status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// pause waits for d and says whether the context lasted that long.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// route is what a request asks for.
type route struct {
	op         Operation
	subjectID  string
	anchorID   string
	paged      bool // of Certificates: version 2
	query      url.Values
	page, size int // -1: not a number
}

func parseRoute(r *http.Request) route {
	rt := route{query: r.URL.Query(), size: defaultPageSize}
	if r.Method != http.MethodGet {
		return rt
	}
	path := r.URL.EscapedPath()
	switch path {
	case certificateManagerPath + "/certificate/recentChanges":
		rt.op = RecentChanges
	case certificateManagerPath + "/certificate/certificates":
		rt.op, rt.paged = Certificates, true
		rt.page = number(rt.query, "page", -1)
		rt.size = number(rt.query, "pageSize", defaultPageSize)
	case externalAccessPath + "/certificates": // version 1 of Certificate Manager
		rt.op = Certificates
	case externalAccessPath + "/subjects":
		rt.op = Subjects
	case externalAccessPath + "/trust-anchors":
		rt.op = TrustAnchors
	default:
		if id, ok := idBetween(path, externalAccessPath+"/subjects/", "/credentials"); ok {
			rt.op, rt.subjectID = Credentials, id
		}
		if id, ok := idBetween(path, externalAccessPath+"/trust-anchors/", "/crls"); ok {
			rt.op, rt.anchorID = CRLs, id
		}
	}
	if rt.op == Subjects || rt.op == Credentials {
		rt.page = number(rt.query, "page", 0)
		rt.size = number(rt.query, "size", defaultPageSize)
	}
	return rt
}

// idBetween is the one segment of a path between its beginning and its end.
func idBetween(path, before, after string) (string, bool) {
	rest, begins := strings.CutPrefix(path, before)
	escaped, ends := strings.CutSuffix(rest, after)
	if !begins || !ends || escaped == "" || strings.Contains(escaped, "/") {
		return "", false
	}
	id, err := url.PathUnescape(escaped)
	return id, err == nil
}

func number(query url.Values, name string, absent int) int {
	if !query.Has(name) {
		return absent
	}
	n, err := strconv.Atoi(query.Get(name))
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// answer is what NCP says when nothing is wrong with it: the gateway's checks in
// its order, then the endpoint's.
func (ex *exchange) answer(w http.ResponseWriter, r *http.Request) {
	if ex.route.op == "" {
		GatewayError(http.StatusNotFound, "300", "Not Found Exception").ServeHTTP(w, r)
		return
	}
	if !ex.server.admit(ex.settings) {
		if ex.RetryAfter > 0 {
			seconds := int64((ex.RetryAfter + time.Second - 1) / time.Second)
			w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
		}
		GatewayError(http.StatusTooManyRequests, "420", "Rate Limited").ServeHTTP(w, r)
		return
	}
	key, why := ex.authenticate(r)
	if why != "" {
		ex.server.unsigned.Add(1)
		GatewayError(http.StatusUnauthorized, "200", "Authentication Failed: "+why).ServeHTTP(w, r)
		return
	}
	if slices.Contains(key.Denied, ex.route.op) {
		GatewayError(http.StatusUnauthorized, "210", "Permission Denied").ServeHTTP(w, r)
		return
	}
	if why := badMediaTypes(ex.route.op, r.Header); why != "" {
		GatewayError(http.StatusBadRequest, "100", "Bad Request Exception: "+why).ServeHTTP(w, r)
		return
	}
	switch ex.route.op {
	case RecentChanges:
		if key.SubAccount {
			EmptyForbidden().ServeHTTP(w, r)
			return
		}
		ex.recentChanges(w, r)
	case Subjects, Credentials:
		ex.page(w, r)
	case Certificates:
		if key.SubAccount && ex.route.paged {
			EmptyForbidden().ServeHTTP(w, r)
			return
		}
		ex.certificates(w, r)
	case TrustAnchors, CRLs:
		ex.list(w, r)
	}
}

// authenticate says whose request it is, or why that cannot be told. It is
// written from the gateway's documents and shares nothing with the client.
func (ex *exchange) authenticate(r *http.Request) (key Key, why string) {
	timestamp := r.Header.Get(headerTimestamp)
	accessKey := r.Header.Get(headerAccessKey)
	signature := r.Header.Get(headerSignature)
	if timestamp == "" || accessKey == "" || signature == "" {
		return Key{}, "a signing header is missing."
	}
	key, known := ex.keys[accessKey]
	if !known {
		return Key{}, "Invalid access key."
	}
	millis, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return Key{}, "Invalid timestamp."
	}
	if off := ex.Now().Sub(time.UnixMilli(millis)); off > clockTolerance || off < -clockTolerance {
		return Key{}, "Expired timestamp."
	}
	mac := hmac.New(sha256.New, []byte(key.SecretKey))
	_, _ = io.WriteString(mac, r.Method+" "+r.RequestURI+"\n"+timestamp+"\n"+accessKey)
	// The text is compared and not the bytes that it stands for: base64 has more
	// than one spelling of them, and the gateway knows only one.
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if !hmac.Equal([]byte(signature), []byte(want)) {
		return Key{}, "Invalid signature."
	}
	return key, ""
}

// badMediaTypes says which of the headers that the guides mark as required is
// not as they want it.
func badMediaTypes(op Operation, h http.Header) string {
	if !isJSON(h.Get("Accept")) {
		return "Accept: application/json is required."
	}
	if op == RecentChanges && !isJSON(h.Get("Content-Type")) {
		return "Content-Type: application/json is required."
	}
	return ""
}

func isJSON(value string) bool {
	mediaType, _, err := mime.ParseMediaType(value)
	return err == nil && mediaType == "application/json"
}

// bucket is a token bucket in real time.
type bucket struct {
	tokens float64
	filled time.Time
}

// admit takes a token if there is one.
func (s *Server) admit(st *settings) bool {
	if st.RateLimit <= 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, most := time.Now(), float64(max(st.RateBurst, 1))
	if s.bucket.filled.IsZero() {
		s.bucket.tokens = most
	} else {
		s.bucket.tokens = min(most, s.bucket.tokens+now.Sub(s.bucket.filled).Seconds()*st.RateLimit)
	}
	s.bucket.filled = now
	if s.bucket.tokens < 1 {
		return false
	}
	s.bucket.tokens--
	return true
}

// mix spreads the bits of x (the finish of splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}
