// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"exeunt.invalid/rivals/harness"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

const many = 8 // Goroutines.

func byMany(count int, work func()) {
	var group sync.WaitGroup
	group.Add(many)
	for g := 0; g < many; g++ {
		go func() {
			for i := 0; i < count/many; i++ {
				work()
			}
			group.Done()
		}()
	}
	group.Wait()
}

// ---- semaphore

func weighted(ctx context.Context, count int) {
	units := semaphore.NewWeighted(8)
	for i := 0; i < count; i++ {
		harness.Require(units.Acquire(ctx, 1) == nil, "semaphore")
		units.Release(1)
	}
}

func weightedAlone(count int) { weighted(context.Background(), count) }

func weightedUntil(count int) {
	ctx, end := context.WithCancel(context.Background())
	defer end()
	weighted(ctx, count)
}

func weightedByMany(count int, withYield bool) {
	units := semaphore.NewWeighted(4)
	total := int64(0)
	byMany(count, func() {
		harness.Require(units.Acquire(context.Background(), 1) == nil, "semaphore")
		atomic.AddInt64(&total, 1)
		if withYield {
			runtime.Gosched()
		}
		units.Release(1)
	})
	harness.Require(total == int64(count) && units.TryAcquire(4), "semaphore")
}

// ---- singleflight

const key = "user:4711"

func flightAlone(count int) {
	var calls singleflight.Group
	sum := 0
	for i := 0; i < count; i++ {
		got, err, _ := calls.Do(key, func() (interface{}, error) { return i, nil })
		harness.Require(err == nil, "singleflight")
		sum += got.(int)
	}
	harness.Require(sum == count*(count-1)/2, "singleflight")
}

// The function lets others run, who then want the same. How well they share depends on how soon
// they come, and is a figure of its own.
func flightByMany() {
	var calls singleflight.Group
	runs := int64(0)
	all := 0
	harness.PerOp("flight_8_fibers", 2_000_000, many, func(count int) {
		runs = 0
		all = count
		byMany(count, func() {
			got, err, _ := calls.Do(key, func() (interface{}, error) {
				runtime.Gosched()
				return atomic.AddInt64(&runs, 1), nil
			})
			harness.Require(err == nil && got.(int64) > 0, "singleflight")
		})
	})
	if all == 0 {
		return
	}
	harness.Figure("flight_8_fibers_runs", "%", 100*float64(runs)/float64(all))
}

// ---- rate limiter

// So high that nobody is refused, and not rate.Inf, which would be no arithmetic.
const (
	huge  = 1e12
	burst = 1_000_000
)

func rateAllow(count int) {
	limiter := rate.NewLimiter(huge, burst)
	for i := 0; i < count; i++ {
		harness.Require(limiter.Allow(), "rate")
	}
}

func rateAllowByMany(count int) {
	limiter := rate.NewLimiter(huge, burst)
	byMany(count, func() { harness.Require(limiter.Allow(), "rate") })
}

func rateReserve(count int) {
	limiter := rate.NewLimiter(huge, burst)
	for i := 0; i < count; i++ {
		harness.Require(limiter.Reserve().OK(), "rate")
	}
}

func rateWait(count int) {
	ctx, end := context.WithCancel(context.Background())
	defer end()
	limiter := rate.NewLimiter(huge, burst)
	for i := 0; i < count; i++ {
		harness.Require(limiter.Wait(ctx) == nil, "rate")
	}
}

func main() {
	harness.Start()
	harness.PerOp("weighted_alone", 20_000_000, 1, weightedAlone)
	harness.PerOp("weighted_until", 20_000_000, 1, weightedUntil)
	harness.PerOp("weighted_4_of_8_fibers", 8_000_000, many, func(n int) { weightedByMany(n, false) })
	harness.PerOp("weighted_4_of_8_yield", 2_000_000, many, func(n int) { weightedByMany(n, true) })
	harness.PerOp("flight_alone", 5_000_000, 1, flightAlone)
	flightByMany()
	harness.PerOp("rate_allow", 10_000_000, 1, rateAllow)
	harness.PerOp("rate_allow_8_fibers", 4_000_000, many, rateAllowByMany)
	harness.PerOp("rate_reserve", 10_000_000, 1, rateReserve)
	harness.PerOp("rate_wait", 10_000_000, 1, rateWait)
}
