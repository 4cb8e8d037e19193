package ncpclient

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// endless repeats a part after a head, for ever.
type endless struct{ rest, part string }

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if e.rest == "" {
			e.rest = e.part
		}
		copied := copy(p[n:], e.rest)
		e.rest = e.rest[copied:]
		n += copied
	}
	return n, nil
}

// Each part of an answer that could grow without an end is bounded, so that what an
// answer takes of memory has little to do with its size. Most end by a bound of
// their own, strings and what is skipped by that of the body.
func TestAnswersTakeBoundedMemory(t *testing.T) {
	t.Parallel()
	const bodyBound = "it is larger than"
	for name, tt := range map[string]struct{ head, part, says string }{
		"rows":                  {`{"%s":[{}`, ",{}", "it has more than"},
		"rows that are no rows": {`{"%s":[1`, ",1", "it has more than"},
		"text in rows":          {`{"%s":[{}`, `,{"issuer":"` + strings.Repeat("x", 1100) + `"}`, "the text of its rows"},
		"values in rows":        {`{"%s":[{}`, `,{"issuer":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}`, "the text of its rows"},
		"a string":              {`{"%s":[{"x509CertificateData":"`, "xxxxxxxxxx", bodyBound},
		"a string with escapes": {`{"%s":[{"issuer":"`, `\n`, bodyBound},
		"a value":               {`{"%s":[{"issuer":[1`, ",1", "one value of it"},
		"a value of strings":    {`{"%s":[{"issuer":["1"`, `,"1"`, "one value of it"},
		"a value of long ones":  {`{"%s":[{"issuer":["1"`, `,"` + strings.Repeat("x", maxPassed+1) + `"`, "one value of it"},
		"a name":                {`{"%s":[{"`, "xxxxxxxxxx", bodyBound},
		"a member":              {`{"x":[1`, ",1", bodyBound},
		"an error":              {`{"error":[1`, ",1", "one value of it"},
		"a number":              {`{"%s":[1`, "1", "one value of it"},
		"text beside the rows":  {`{"%s":[],"message":"`, "xxxxxxxxxx", bodyBound},
	} {
		for _, array := range []string{"content", "orders"} {
			names := strings.NewReplacer("%s", array)
			if array == "orders" {
				names = strings.NewReplacer("%s", array, "issuer", "orderId")
			}
			most := int64(maxBodyBytes)
			if tt.says == bodyBound {
				most = 1 << 20 // to skip more takes seconds under -race
			}
			body := http.MaxBytesReader(nil, io.NopCloser(&endless{rest: names.Replace(tt.head), part: names.Replace(tt.part)}), most)
			var err error
			if array == "content" {
				_, err = decodeHistory(&http.Response{StatusCode: http.StatusOK}, body, 0, 100)
			} else {
				_, err = decodeRecentChanges(&http.Response{StatusCode: http.StatusOK}, body)
			}
			e := newDecodeError(&http.Response{StatusCode: http.StatusOK}, err)
			if tt.says == bodyBound {
				e = newTransportError(err)
			}
			if wantReason(t, e, ErrTooLarge); !strings.Contains(e.Error(), tt.says) {
				t.Errorf("%s, %s: %v", name, array, e)
			}
		}
	}
	// Members that nobody asked for are not kept.
	members := &bytes.Buffer{}
	members.WriteString(`{"a":0`)
	for i := range 100_000 {
		fmt.Fprintf(members, `,"%d":%d`, i, i)
	}
	members.WriteString(`,"totalElements":0,"code":"` + strings.Repeat("0", 100_000) + `"}`)
	kept, err := decodeObject(members, "content", nil, "totalElements")
	if err != nil || len(kept) != 2 || len(kept["code"]) > 2*maxText {
		t.Errorf("%d members are kept, %v", len(kept), err)
	}
}

// What is far more than asked for, but no attack, is read.
func TestLargePagesAreRead(t *testing.T) {
	t.Parallel()
	for size, rows := range map[int]int{20: minPageRows, minPageRows: 2 * minPageRows, 3_000: 30_000} {
		page := `{"totalElements":1,"content":[{}` + strings.Repeat(",{}", rows-1) + `]}`
		got, err := decodePage(externalAccessNames(), &http.Response{StatusCode: http.StatusOK}, strings.NewReader(page), 0, size, decodeSubjects)
		if err != nil || len(got.Rows) != rows {
			t.Errorf("%d rows of %d: %d, %v", rows, size, len(got.Rows), err)
		}
	}
	fat := strings.Repeat("x", 30_000)
	page := `{"totalElements":100,"content":[{}` + strings.Repeat(`,{"serialNumber":"`+fat+`","x509CertificateData":"`+fat+fat+fat+`"}`, 100) + `]}`
	if got, err := decodeHistory(&http.Response{StatusCode: http.StatusOK}, strings.NewReader(page), 0, 100); err != nil || len(got.Rows) != 101 {
		t.Errorf("fat rows: %d, %v", len(got.Rows), err)
	}
}

// hostile sends an answer of 200 MiB: a head, and a part again and again.
func hostile(tb testing.TB, head, part string, zipped bool) http.Handler {
	tb.Helper()
	part = strings.Repeat(part, 1+(1<<20)/len(part))
	send := func(s string) []byte {
		if !zipped {
			return []byte(s)
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := io.WriteString(z, s); err != nil {
			tb.Fatal(err)
		}
		if err := z.Close(); err != nil {
			tb.Fatal(err)
		}
		return b.Bytes()
	}
	first, more := send(head), send(part)
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if zipped {
			w.Header().Set("Content-Encoding", "gzip")
		}
		_, _ = w.Write(first)
		for range 200 {
			if _, err := w.Write(more); err != nil {
				return
			}
		}
	})
}

// Ten hostile answers at one time take less than 128 MiB of the heap together,
// what waits for the collector included.
func TestHostileAnswersAtOnce(t *testing.T) { //nolint:paralleltest // measures the heap of the process
	const at = 10
	for name, handler := range map[string]http.Handler{
		"tiny rows":            hostile(t, `{"totalElements":9,"content":[{}`, ",{}", false),
		"gzip bomb, tiny rows": hostile(t, `{"totalElements":9,"content":[{}`, ",{}", true),
		"gzip bomb, a string":  hostile(t, `{"totalElements":9,"content":[{"issuer":"`, "x", true),
		"gzip bomb, text":      hostile(t, `{"totalElements":9,"content":[{}`, `,{"issuer":"`+strings.Repeat("x", 190)+`"},{"issuer":"y"}`, true),
		"long strings":         hostile(t, `{"totalElements":9,"content":[{}`, `,{"issuer":"`+strings.Repeat("x", 1<<20)+`"}`, true),
		"huge":                 ncptest.Huge(200 << 20),
	} {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // as above
			if raceDetector && strings.Contains(name, "string") {
				t.Skip("to skip 320 MiB of strings takes half a minute under -race")
			}
			api := externalAccessAt(t, served(t, handler), limits(at, 0), func(c *Config) { c.Timeout = time.Minute })
			runtime.GC()
			var before runtime.MemStats
			runtime.ReadMemStats(&before)
			stop, peak := make(chan struct{}), make(chan uint64)
			go func() {
				var most uint64
				for {
					var now runtime.MemStats
					runtime.ReadMemStats(&now)
					most = max(most, now.HeapAlloc)
					select {
					case <-stop:
						peak <- most
						return
					case <-time.After(time.Millisecond):
					}
				}
			}()
			var wg sync.WaitGroup
			for i := range at {
				wg.Go(func() {
					_, err := api.CredentialsPage(t.Context(), strconv.Itoa(i), 0, 100)
					wantReason(t, err, ErrTooLarge)
				})
			}
			wg.Wait()
			close(stop)
			most := int64(<-peak) - int64(before.HeapAlloc) //nolint:gosec // far from overflow
			t.Logf("at most %d MiB", most>>20)
			if most > 128<<20 {
				t.Errorf("the heap grew by %d MiB", most>>20)
			}
		})
	}
}
