package ncptest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"
)

// The widest windows of recentChanges: 7 days.
const (
	maxMinutes = 7 * 24 * 60
	maxSeconds = maxMinutes * 60
)

// recentChanges answers the operation of that name.
func (ex *exchange) recentChanges(w http.ResponseWriter, r *http.Request) {
	minutes, seconds := ex.route.query.Has("minutes"), ex.route.query.Has("seconds")
	var window time.Duration
	switch {
	case minutes && seconds:
		// The silent answer of the guide: no error, and nothing happened.
		ex.changes(w, -1)
		return
	case minutes:
		n := number(ex.route.query, "minutes", -1)
		if n < 1 || n > maxMinutes {
			ReturnCode(http.StatusBadRequest, "2100", "Invalid parameter: minutes").ServeHTTP(w, r)
			return
		}
		window = time.Duration(n) * time.Minute
	case seconds:
		n := number(ex.route.query, "seconds", -1)
		if n < 1 || n > maxSeconds {
			ReturnCode(http.StatusBadRequest, "2100", "Invalid parameter: seconds").ServeHTTP(w, r)
			return
		}
		window = time.Duration(n) * time.Second
	default:
		ReturnCode(http.StatusBadRequest, "2101", "Required parameter is missing: minutes or seconds").ServeHTTP(w, r)
		return
	}
	ex.changes(w, window)
}

// changes writes what lies inside the window; a negative one holds nothing.
func (ex *exchange) changes(w http.ResponseWriter, window time.Duration) {
	ex.send(w, func(b []byte) []byte {
		account := &ex.server.account
		account.mu.RLock()
		defer account.mu.RUnlock()
		now := ex.Now()
		total := 0
		orders := make([]byte, 0, 64*len(account.changes))
		for i := range account.changes {
			c := &account.changes[i]
			if !c.inside(now, window) {
				continue
			}
			if total > 0 {
				orders = append(orders, ',')
			}
			orders = append(orders, `{"orderId":`...)
			orders = appendString(orders, c.OrderID)
			orders = append(orders, `,"certificateId":`...)
			orders = strconv.AppendInt(orders, c.CertificateID, 10)
			orders = append(orders, `,"status":`...)
			orders = appendString(orders, c.Status)
			orders = append(orders, '}')
			total++
		}
		b = append(b, `{"returnCode":"0","returnMessage":"Success","totalCount":`...)
		b = strconv.AppendInt(b, int64(total), 10)
		b = append(b, `,"orders":[`...)
		b = append(b, orders...)
		return append(b, `]}`...)
	})
}

func (c *Change) inside(now time.Time, window time.Duration) bool {
	if window < 0 {
		return false
	}
	return c.ChangedAt.IsZero() || (!c.ChangedAt.After(now) && now.Sub(c.ChangedAt) <= window)
}

// page answers the operations that page: subjects and credentials.
func (ex *exchange) page(w http.ResponseWriter, r *http.Request) {
	page, size := ex.route.page, ex.route.size
	if page < 0 || size < 1 {
		SpringError(http.StatusBadRequest, "COMMON_001", "page or size is out of range").ServeHTTP(w, r)
		return
	}
	if ex.RefusePageSizeAbove > 0 && size > ex.RefusePageSizeAbove {
		message := fmt.Sprintf("size must be less than or equal to %d", ex.RefusePageSizeAbove)
		SpringError(http.StatusBadRequest, "COMMON_001", message).ServeHTTP(w, r)
		return
	}
	if ex.MaxPageSize > 0 {
		size = min(size, ex.MaxPageSize)
	}
	if ex.EnvelopeOnPage && ex.lies(ex.route.op) {
		ReturnCode(http.StatusOK, "9999", "Internal error").ServeHTTP(w, r)
		return
	}

	account := &ex.server.account
	if ex.route.op == Credentials && ex.Order == NoOrder {
		account.mu.Lock()
		if sub, ok := account.subjects[ex.route.subjectID]; ok {
			sub.shuffle(ex.Seed)
		}
		account.mu.Unlock()
	}
	known := true
	ex.send(w, func(b []byte) []byte {
		account.mu.RLock()
		defer account.mu.RUnlock()
		if ex.route.op == Subjects {
			return ex.pageOf(b, page, size, len(account.listed),
				func(b []byte, i int) []byte { return account.listed[i].append(b) },
				func(b []byte, i int) []byte { return (&subject{Subject: endlessSubject(i)}).append(b) })
		}
		var sub *subject
		if sub, known = account.subjects[ex.route.subjectID]; !known {
			return nil
		}
		last := len(sub.rows) - 1
		at := func(i int) *row { return sub.rows[last-i] }
		switch ex.Order {
		case OldestFirst:
			at = func(i int) *row { return sub.rows[i] }
		case NoOrder:
			if sub.shuffled != nil { // else it was put since
				at = func(i int) *row { return sub.shuffled[i] }
			}
		case NewestFirst:
		}
		return ex.pageOf(b, page, size, len(sub.rows),
			func(b []byte, i int) []byte { return at(i).append(b) },
			func(b []byte, i int) []byte {
				var made subject
				made.add([]Credential{endlessCredential(ex.Now(), i)})
				return made.rows[0].append(b)
			})
	})
	if !known {
		SpringError(http.StatusNotFound, "COMMON_404", "The subject does not exist.").ServeHTTP(w, r)
	}
}

// pageOf writes a page object. Rows come from row, or from endless when the
// pages shall not end.
func (ex *exchange) pageOf(b []byte, page, size, total int, row, endless func([]byte, int) []byte) []byte {
	from, to := 0, 0
	if page <= total/size { // else page*size may not even be an int
		from = min(page*size, total)
		to = min(from+size, total)
	}
	if ex.lies(ex.route.op) {
		if ex.RepeatPage {
			from, to = 0, min(size, total)
		}
		if ex.EndlessPages {
			row = endless
			from = min(page, 1<<30/size) * size
			to = from + size
			total = to + size
		}
		total = max(0, total+ex.LyingTotal)
	}
	b = append(b, `{"pageNo":`...)
	b = strconv.AppendInt(b, int64(page), 10)
	b = append(b, `,"totalElements":`...)
	b = strconv.AppendInt(b, int64(total), 10)
	b = append(b, `,"pageSize":`...)
	b = strconv.AppendInt(b, int64(size), 10)
	b = append(b, `,"content":[`...)
	for i := from; i < to; i++ {
		if i > from {
			b = append(b, ',')
		}
		b = row(b, i)
	}
	return append(b, `]}`...)
}

// send writes what render appends, as an answer of the endpoint; nothing if that
// is nothing. The whole of it is made before a byte goes out, so that no lock is
// held over a slow client.
func (ex *exchange) send(w http.ResponseWriter, render func([]byte) []byte) {
	pool := &ex.server.buffers
	buffer, _ := pool.Get().(*[]byte)
	body := render((*buffer)[:0])
	if body == nil {
		pool.Put(buffer)
		return
	}
	*buffer = body
	defer pool.Put(buffer)
	h := w.Header()
	h.Set("Content-Type", "application/json;charset=UTF-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set(headerOrigin, originEndpoint)
	w.WriteHeader(http.StatusOK)
	ex.leave()
	_, _ = w.Write(body) // a client that has gone is no matter of the server's
}

func (sub *subject) append(b []byte) []byte {
	b = append(b, `{"subjectId":`...)
	b = appendString(b, sub.SubjectID)
	b = append(b, `,"subjectNrn":`...)
	b = appendString(b, sub.SubjectNRN)
	b = append(b, `,"x509Subject":`...)
	b = appendString(b, sub.X509Subject)
	b = append(b, `,"enabled":`...)
	b = strconv.AppendBool(b, sub.Enabled)
	b = append(b, `,"createTime":`...)
	b = appendOrNull(b, sub.CreateTime)
	b = append(b, `,"updateTime":`...)
	b = appendOrNull(b, sub.UpdateTime)
	b = append(b, `,"lastSeenTime":`...)
	b = appendOrNull(b, sub.LastSeenTime)
	return append(b, '}')
}

func (r *row) append(b []byte) []byte {
	if r.raw != "" {
		return append(b, r.raw...)
	}
	b = append(b, `{"issuer":`...)
	b = append(b, r.issuer.json...)
	b = append(b, `,"serialNumber":`...)
	b = appendString(b, r.serial)
	b = append(b, `,"x509CertificateData":`...)
	b = append(b, r.cert.json...)
	switch r.failed {
	case null:
		b = append(b, `,"failed":null,"seenTime":`...)
	case no:
		b = append(b, `,"failed":false,"seenTime":`...)
	case yes:
		b = append(b, `,"failed":true,"seenTime":`...)
	}
	b = appendOrNull(b, r.seen)
	return append(b, '}')
}

func appendOrNull(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendString(b, s)
}

// appendString appends s as a JSON string. Nearly all strings here are plain, and
// pages of a thousand rows have no time for more than a look at them.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, err := json.Marshal(s)
			if err != nil { // cannot be: a string always has a form
				return append(b, `""`...)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
