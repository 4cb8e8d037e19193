package ncpclient

import (
	"math"
	"time"
)

const (
	// shortestStretch is the least time over which a rate is measured: a few requests at
	// once are no rate.
	shortestStretch = 250 * time.Millisecond
	// memoryOfRefusal is how long the highest rate that was refused is where the rate
	// climbs fast: a lower one that is refused meanwhile may be bad luck.
	memoryOfRefusal = 2 * time.Minute
	// recovery is the time in which the rate climbs by as much as is configured, beyond
	// where it was refused.
	recovery = 90 * time.Second
	// minRate is the lowest rate that 429s lead to (or a hundredth of the configured
	// one, if that is more): a scrape must still be able to find out that NCP has
	// recovered.
	minRate = 0.5
)

// pace is the rate in force: as in TCP, it falls to half of what was really sent when
// that is refused, doubles every second until where it was refused, and climbs in a
// straight line beyond. It climbs with time, not with answers: an exporter that sends
// ten requests a minute would otherwise take hours to get over one burst.
type pace struct {
	configured float64 // requests a second; +Inf: no limit
	low        float64
	lowAt      time.Time // when the rate was low, and began to climb
	refused    float64   // where the rate was refused; up to it, it climbs fast
	refusedAt  time.Time

	sent [256]int64 // when the last requests were sent, in Unix nanoseconds
	next int        // which of them is the oldest
}

func newPace(configured float64) pace {
	if configured == 0 {
		configured = math.Inf(1)
	}
	return pace{configured: configured, low: configured, refused: configured}
}

// note notes that a request is sent.
func (p *pace) note(now time.Time) {
	p.sent[p.next] = now.UnixNano()
	p.next = (p.next + 1) % len(p.sent)
}

// reallySent is the highest rate of any number of requests until now.
func (p *pace) reallySent(now time.Time) (perSecond float64) {
	for n := 1; n <= len(p.sent); n++ {
		since := time.Duration(now.UnixNano() - p.sent[(p.next-n+len(p.sent))%len(p.sent)])
		perSecond = max(perSecond, float64(n)/max(shortestStretch, since).Seconds())
	}
	return perSecond
}

// at is the rate in force.
func (p *pace) at(now time.Time) float64 {
	climbed := max(0, now.Sub(p.lowAt)).Seconds()
	if math.IsInf(p.configured, 1) || climbed == 0 {
		return p.low
	}
	fast := max(0, math.Log2(p.refused/p.low)) // seconds
	if climbed < fast {
		return p.low * math.Exp2(climbed)
	}
	return min(p.configured, max(p.low, p.refused)+(climbed-fast)*p.configured/recovery.Seconds())
}

// floor is the lowest rate.
func (p *pace) floor() float64 { return min(p.configured, max(minRate, p.configured/100)) }

// rest has the rate climb from begin on only, from where it is now.
func (p *pace) rest(now, begin time.Time) { p.low, p.lowAt = p.at(now), begin }

// fall lowers the rate, as it was refused; it climbs from begin on.
func (p *pace) fall(now, begin time.Time) {
	sent := min(p.at(now), max(p.floor(), p.reallySent(now)))
	if sent >= p.refused || now.Sub(p.refusedAt) > memoryOfRefusal {
		p.refused, p.refusedAt = sent, now
	}
	p.low, p.lowAt = max(p.floor(), sent/2), begin
}

// takeOver goes on where the pace of an earlier client is, if that is lowered.
func (p *pace) takeOver(from pace, now time.Time) (lowered bool) {
	low := from.at(now)
	if low >= from.configured || low >= p.configured || math.IsInf(p.configured, 1) {
		return false
	}
	p.low, p.lowAt, p.refused, p.refusedAt = low, from.lowAt, min(from.refused, p.configured), from.refusedAt
	if p.lowAt.Before(now) { // else it is after a pause
		p.lowAt = now
	}
	return true
}
