package ncptest

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// dripInterval is the time between two bytes of Drip: slow for a client, and
// cheap for the machine that simulates it.
const dripInterval = 5 * time.Millisecond

// Fault says how a request fails: the handler that answers it, or nil for the
// normal answer. Handlers are called after Config.Latency.
type Fault func(Request) http.Handler

// Always answers every request with h.
func Always(h http.Handler) Fault {
	return func(Request) http.Handler { return h }
}

// ForOp answers the requests of one operation with h.
func ForOp(op Operation, h http.Handler) Fault {
	return func(r Request) http.Handler {
		if r.Op == op {
			return h
		}
		return nil
	}
}

// ForSubject answers the requests for one subject's credentials with h.
func ForSubject(id string, h http.Handler) Fault {
	return func(r Request) http.Handler {
		if r.Op == Credentials && r.SubjectID == id {
			return h
		}
		return nil
	}
}

// ForPage answers the requests of an operation for one page with h.
func ForPage(op Operation, page int, h http.Handler) Fault {
	return func(r Request) http.Handler {
		if r.Op == op && r.Page == page {
			return h
		}
		return nil
	}
}

// FirstOf takes the first of the faults that has an answer.
func FirstOf(faults ...Fault) Fault {
	return func(r Request) http.Handler {
		for _, f := range faults {
			if h := f(r); h != nil {
				return h
			}
		}
		return nil
	}
}

// Times lets a fault act on the first n requests that it matches only.
func Times(n int, f Fault) Fault {
	var left atomic.Int64
	left.Store(int64(n))
	return func(r Request) http.Handler {
		h := f(r)
		if h == nil || left.Add(-1) < 0 {
			return nil
		}
		return h
	}
}

// OneIn answers about one in n requests with one of hs. It looks like chance, but
// which ones are hit depends on the seed, the operation and the number of the
// request alone.
func OneIn(n int, seed uint64, hs ...http.Handler) Fault {
	return func(r Request) http.Handler {
		if n < 1 || len(hs) == 0 {
			return nil
		}
		x := mix(seed)
		for i := range len(r.Op) {
			x = mix(x ^ uint64(r.Op[i]))
		}
		x = mix(x + uint64(r.N)) //nolint:gosec // a count is not negative
		if x%uint64(n) != 0 {
			return nil
		}
		return hs[x/uint64(n)%uint64(len(hs))]
	}
}

// Nested is JSON that opens depth arrays and closes them all.
func Nested(depth int) http.Handler {
	return Raw(http.StatusOK, jsonType,
		`{"returnCode":"0","content":`+strings.Repeat("[", depth)+strings.Repeat("]", depth)+`}`)
}

// Redirect sends the client elsewhere; a good one does not take its signature
// there.
func Redirect(url string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", url)
		w.WriteHeader(http.StatusFound)
	})
}

// CutShort promises the normal answer by its Content-Length, sends half of it and
// cuts the connection.
func CutShort() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, body := normalAnswer(w, r)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(status)
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
}

// CutClean is half of the normal answer in a message that is whole.
func CutClean() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, body := normalAnswer(w, r)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)/2))
		w.WriteHeader(status)
		_, _ = w.Write(body[:len(body)/2])
	})
}

// Huge streams n bytes of an answer that looks right from beginning to end,
// without telling its length before.
func Huge(n int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		w.WriteHeader(http.StatusOK)
		writeHuge(w, r, n)
	})
}

// GzipBomb is Huge in few bytes on the wire. A client that does not accept gzip
// gets it all the same.
func GzipBomb(n int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(http.StatusOK)
		z := gzip.NewWriter(w)
		writeHuge(z, r, n)
		_ = z.Close() // fails if the client has gone
	})
}

// HugeHeader is the normal answer under a header of n bytes.
func HugeHeader(n int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, body := normalAnswer(w, r)
		w.Header().Set("X-Padding", strings.Repeat("x", n))
		w.WriteHeader(status)
		_, _ = w.Write(body)
	})
}

// Drip sends one byte after another until the client goes away or the Server is
// closed. There is always a next one.
func Drip() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		w.WriteHeader(http.StatusOK)
		control := http.NewResponseController(w)
		ticker := time.NewTicker(dripInterval)
		defer ticker.Stop()
		next := []byte("{")
		for {
			if _, err := w.Write(next); err != nil {
				return
			}
			if err := control.Flush(); err != nil {
				return
			}
			next = []byte(" ")
			select {
			case <-ticker.C:
			case <-r.Context().Done():
				panic(http.ErrAbortHandler)
			}
		}
	})
}

// Hang never answers. It ends when the client goes away or the Server is closed.
func Hang() http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
}

// Reset resets the connection without an answer.
func Reset() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler) // the next best thing
		}
		if secure, ok := conn.(*tls.Conn); ok {
			conn = secure.NetConn() // its Close would say goodbye first
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // makes Close send RST
		}
		_ = conn.Close()
	})
}

// normalAnswer is what the Server would have said. Its headers, less the length,
// are set on w. Outside of a Server it is the documented page.
func normalAnswer(w http.ResponseWriter, r *http.Request) (status int, body []byte) {
	ex := exchangeOf(r)
	if ex == nil {
		w.Header().Set("Content-Type", jsonType)
		return http.StatusOK, DocumentedCredentials()
	}
	kept := keeper{header: w.Header(), status: http.StatusOK}
	ex.answer(&kept, r)
	w.Header().Del("Content-Length")
	return kept.status, kept.body.Bytes()
}

// keeper is a ResponseWriter that keeps the answer.
type keeper struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *keeper) Header() http.Header         { return k.header }
func (k *keeper) WriteHeader(status int)      { k.status = status }
func (k *keeper) Write(p []byte) (int, error) { return k.body.Write(p) }

// writeHuge writes n bytes of an answer to r: rows upon rows, padded with blanks
// to the very length.
func writeHuge(w io.Writer, r *http.Request, n int64) {
	head := `{"pageNo":0,"totalElements":2147483647,"pageSize":2147483647,"content":[`
	row := `{"issuer":"CN=Huge","serialNumber":"0","x509CertificateData":"","failed":false,"seenTime":"2024-12-12T18:09:05.705+09:00"}`
	if ex := exchangeOf(r); ex != nil {
		switch ex.route.op {
		case RecentChanges:
			head = `{"returnCode":"0","returnMessage":"Success","totalCount":2147483647,"orders":[`
			row = `{"orderId":"410","certificateId":55991,"status":"Ongoing"}`
		case Subjects:
			row = `{"subjectId":"huge","subjectNrn":"","x509Subject":"CN=Huge","enabled":true,"createTime":null,"updateTime":null,"lastSeenTime":null}`
		case Credentials:
		}
	}
	const tail = "]}"
	more := strings.Repeat(","+row, 1+32<<10/len(row))
	unit := int64(len(row) + 1)
	room := n - int64(len(head)+len(row)+len(tail)) // for more rows
	if room < 0 {
		_, _ = io.WriteString(w, (head + row + tail)[:max(0, n)])
		return
	}
	rows := room / unit
	if _, err := io.WriteString(w, head+row); err != nil {
		return
	}
	for left := rows * unit; left > 0; {
		part := more[:min(left, int64(len(more)))]
		if _, err := io.WriteString(w, part); err != nil {
			return
		}
		left -= int64(len(part))
	}
	_, _ = io.WriteString(w, strings.Repeat(" ", int(room-rows*unit))+tail)
}
