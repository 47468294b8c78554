package server

import (
	"fmt"
	"math"
	"net"
	"net/http"
	"sync"
	"time"
)

// rateWindow is the fixed window in which the Hub counts requests.
const rateWindow = 5 * time.Minute

// rateLimiter counts requests of a caller in fixed windows and in the Hub's three buckets.
type rateLimiter struct {
	quota  int // requests in a window; 0: any number, and no headers
	mu     sync.Mutex
	window time.Time
	used   map[string]int
}

func newRateLimiter(quota int) *rateLimiter {
	return &rateLimiter{quota: quota, used: map[string]int{}}
}

// bucketOf tells which quota a path uses up.
func bucketOf(path []string) string {
	if len(path) > 0 && path[0] == "api" {
		return "api"
	}
	for i, segment := range path {
		if i >= 2 && (segment == "resolve" || segment == "raw") {
			return "resolvers"
		}
	}
	return "pages"
}

func (l *rateLimiter) allow(c *call, path []string, now time.Time) error {
	if l.quota <= 0 {
		return nil
	}
	caller := "anonymous"
	if c.account != nil {
		caller = "user:" + c.account.Name
	} else if host, _, err := net.SplitHostPort(c.r.RemoteAddr); err == nil {
		caller = "address:" + host
	}
	bucket := bucketOf(path)
	start := now.Truncate(rateWindow)
	reset := int(math.Ceil(start.Add(rateWindow).Sub(now).Seconds()))
	l.mu.Lock()
	if !l.window.Equal(start) {
		l.window, l.used = start, map[string]int{}
	}
	l.used[bucket+" "+caller]++
	left := l.quota - l.used[bucket+" "+caller]
	l.mu.Unlock()
	header := c.w.Header()
	header.Set("RateLimit", fmt.Sprintf(`"%s";r=%d;t=%d`, bucket, max(left, 0), reset))
	header.Set("RateLimit-Policy", fmt.Sprintf(`"fixed window";"%s";q=%d;w=%d`, bucket, l.quota, int(rateWindow.Seconds())))
	if left < 0 {
		return fail(http.StatusTooManyRequests, "Rate limit reached: wait %d seconds", reset)
	}
	return nil
}
