package account

import (
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ncp_exporter/internal/config"
)

// TestThousandReloads reloads a thousand times, a third of them bad, with scrapes in
// between and during them.
func TestThousandReloads(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		kept := onDisk(named("kept"), filepath.Join(dir, "kept"))
		changing := onDisk(named("changing"), filepath.Join(dir, "changing"))
		b := newBubble(t, kept, changing)
		defer b.close()
		b.scrape("kept")
		first := b.set.Account("kept")
		for n := range 4 {
			b.ncp("new-" + strconv.Itoa(n)) // is there from the start, as its goroutine counts
		}
		goroutines := 0
		var scrapes sync.WaitGroup
		for n := range 1000 {
			accounts := []config.Account{kept, changing}
			switch n % 3 {
			case 0:
				changing.Limits.MaxRetries = n % 7
				accounts[1] = changing
			case 1:
				accounts = append(accounts, named("new-"+strconv.Itoa(n%4)))
			case 2:
				changing.Limits.MaxRetries = 99 // is not taken
				accounts = append(accounts[:1], changing, withoutKeys("bad"))
			}
			if n%10 == 0 {
				scrapes.Go(func() { b.scrape("changing") })
				time.Sleep(time.Millisecond) // the reload comes in the middle of it
			}
			_, err := b.set.Reload(t.Context(), accounts)
			if bad := n%3 == 2; bad != (err != nil) {
				t.Fatalf("reload %d: error %v", n, err)
			}
			if n%100 == 99 {
				scrapes.Wait()
				for _, name := range b.set.Names() {
					values, _ := b.scrape(name)
					b.want(values, successOfExternalAccess, "1")
				}
				if _, err := b.set.Reload(t.Context(), []config.Account{kept, named("changing")}); err != nil {
					t.Fatal(err)
				}
				b.scrape("changing")
				time.Sleep(2 * time.Minute) // idle connections end
				synctest.Wait()
				if now := strings.Count(stacks(), "synctest bubble"); goroutines == 0 { // the runtime has others
					goroutines = now
				} else if now > goroutines {
					t.Fatalf("%d goroutines after %d reloads, %d after 100:\n%s", now, n+1, goroutines, stacks())
				}
				changing = onDisk(named("changing"), filepath.Join(dir, "changing"))
			}
		}
		if b.set.Account("kept") != first {
			t.Error("the account that never changed is another one")
		}
	})
}

func stacks() string {
	all := make([]byte, 1<<20)
	return strings.TrimSpace(string(all[:runtime.Stack(all, true)]))
}
