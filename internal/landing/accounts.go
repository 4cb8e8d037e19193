package landing

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/common/version"

	"ncp_exporter/internal/account"
)

// overview is what the page of all accounts shows.
type overview struct {
	Version  string
	Metrics  string // relative, as all links are: a proxy may serve the page below a path
	Wrong    int
	Accounts []*view
}

// NewSet makes the page of several accounts, and with ?account= that of one.
func NewSet(set *account.Set, metrics string, logger log.Logger, now func() time.Time) (http.Handler, error) {
	all, err := parse(accountsHTML, now)
	if err != nil {
		return nil, err
	}
	one, err := parse(pageHTML, now)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		query := req.URL.Query()
		if !query.Has("account") {
			write(w, all, newOverview(set, metrics, now()), logger)
			return
		}
		name := query.Get("account")
		v := viewOf(set, name, now())
		if v == nil {
			http.Error(w, fmt.Sprintf("There is no account %.64q.", name), http.StatusNotFound)
			return
		}
		write(w, one, v, logger)
	}), nil
}

// viewOf is the page of an account; nil if there is none of this name.
func viewOf(set *account.Set, name string, now time.Time) *view {
	a := set.Account(name)
	if a == nil {
		return nil
	}
	return newView(a, "/probe?account="+url.QueryEscape(name), now)
}

func newOverview(set *account.Set, metrics string, now time.Time) overview {
	o := overview{Version: version.Version, Metrics: "." + metrics}
	for _, name := range set.Names() {
		if v := viewOf(set, name, now); v != nil {
			o.Wrong += v.Wrong
			o.Accounts = append(o.Accounts, v)
		}
	}
	return o
}
