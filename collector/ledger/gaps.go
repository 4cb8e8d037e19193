package ledger

// gaps are what a pass shows of rows that the server did not give, though they are
// there, if that is not its way.
type gaps struct {
	longest  int  // rows of the longest page
	shortest int  // rows of the shortest page that had others behind it
	lastRows int  // rows that the last page had when it was found, if it is read again
	lacks    bool // it ended before its total
}

var noGaps = gaps{shortest: maxRows} //nolint:gochecknoglobals // a constant in all but syntax

// before notes the rows of a page that has others behind it.
func (g *gaps) before(rows int) { g.shortest = min(g.shortest, rows) }

// doubtful says whether rows of a page are lacking, or whole pages.
func (g *gaps) doubtful() bool { return g.lacks || g.shortest < g.longest }

// tellMore says whether all totals that were told tell of more than so many rows; one
// more is none as long as nobody knows whether they are right.
func (r *reader) tellMore(rows int, totals ...int) bool {
	more := false
	for _, total := range totals {
		told, sure := r.plan.server.rowsOf(total)
		if told < 0 {
			continue
		}
		if more = told > rows+1 || sure && told > rows; !more {
			break
		}
	}
	return more
}
