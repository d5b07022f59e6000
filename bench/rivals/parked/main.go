// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"sync"
	"time"

	"exeunt.invalid/rivals/harness"
)

func parked(goroutines int) {
	before := harness.ResidentBytes()
	gate := make(chan struct{})
	var started, ended sync.WaitGroup
	started.Add(goroutines)
	ended.Add(goroutines)
	start := time.Now()
	for i := 0; i < goroutines; i++ {
		go func() {
			started.Done()
			<-gate
			ended.Done()
		}()
	}
	started.Wait()
	harness.Figure("parked_create", "ns", harness.Since(start)/float64(goroutines))
	time.Sleep(50 * time.Millisecond)
	harness.Figure("parked_memory", "B", (harness.ResidentBytes()-before)/float64(goroutines))
	start = time.Now()
	close(gate)
	ended.Wait()
	harness.Figure("parked_wake_join", "ns", harness.Since(start)/float64(goroutines))
}

func main() {
	harness.Start()
	parked(harness.Scaled(100_000, 1))
}
