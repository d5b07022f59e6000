// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"sync"
	"time"

	"exeunt.invalid/rivals/harness"
)

func createStop() {
	if !harness.Wants("timer_create_stop") {
		return
	}
	others := make([]*time.Timer, 100_000)
	for i := range others {
		others[i] = time.NewTimer(time.Hour + time.Duration(i)*time.Millisecond)
	}
	harness.PerOp("timer_create_stop", 1_000_000, 1, func(count int) {
		for i := 0; i < count; i++ {
			time.NewTimer(time.Hour + time.Duration(i%1000)*time.Millisecond).Stop()
		}
	})
	for _, one := range others {
		one.Stop()
	}
}

func sleepers(goroutines, rounds int) []float64 {
	late := make([]float64, goroutines*rounds)
	var group sync.WaitGroup
	group.Add(goroutines)
	for i := 0; i < goroutines; i++ {
		i := i
		go func() {
			for j := 0; j < rounds; j++ {
				start := time.Now()
				time.Sleep(time.Millisecond)
				late[i*rounds+j] = harness.Since(start) - 1e6
			}
			group.Done()
		}()
	}
	group.Wait()
	return late
}

func lateness(goroutines, rounds int) {
	if !harness.Wants("sleep_1ms") {
		return
	}
	warmUp := rounds / 10
	if warmUp < 1 {
		warmUp = 1
	}
	sleepers(goroutines, warmUp)
	late := sleepers(goroutines, rounds)
	harness.Figure("sleep_1ms_late_p50", "ns", harness.Percentile(late, 50))
	harness.Figure("sleep_1ms_late_p99", "ns", harness.Percentile(late, 99))
}

func main() {
	harness.Start()
	createStop()
	lateness(1000, harness.Scaled(100, 1))
}
