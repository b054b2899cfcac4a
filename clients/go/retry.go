package darkroom

import (
	"context"
	"math/rand"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	firstWait   = 200 * time.Millisecond
	longestWait = 5 * time.Second
)

// waitBeforeNext waits if there is to be another try after `attempt` of them, and tells whether.
//
// Only UNAVAILABLE is tried again. A delay that the server asks for takes the place of the
// exponential back-off, and a negative one ends the tries.
func (c *Client) waitBeforeNext(ctx context.Context, err error, trailer metadata.MD, attempt int) bool {
	if status.Code(err) != codes.Unavailable || attempt >= c.options.MaxAttempts || ctx.Err() != nil {
		return false
	}
	wait := backOff(attempt)
	if asked := trailer.Get("grpc-retry-pushback-ms"); len(asked) > 0 {
		askedMs, err := strconv.Atoi(asked[0])
		if err != nil || askedMs < 0 {
			return false
		}
		wait = time.Duration(askedMs) * time.Millisecond
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// backOff is drawn from below its limit, so that callers who failed together do not return together.
func backOff(attempt int) time.Duration {
	limit := longestWait
	// Shifted further, it would overflow.
	if shift := attempt - 1; shift < 10 && firstWait<<shift < longestWait {
		limit = firstWait << shift
	}
	return time.Duration(rand.Int63n(int64(limit)))
}
