// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"sync"
	"sync/atomic"
	"time"

	"exeunt.invalid/rivals/harness"
)

const (
	hold        = 100 * time.Microsecond
	patience    = 2 * time.Second
	turnsWanted = 10
)

func work() {
	for start := time.Now(); time.Since(start) < hold; {
	}
}

func main() {
	harness.Start()
	if !harness.Wants("starvation") {
		return
	}
	var mutex sync.Mutex
	var over int32
	var group sync.WaitGroup
	greedyTurns, modestTurns := 0, 0
	longest := 0.0
	group.Add(2)
	start := time.Now()
	modest := func() {
		for modestTurns < turnsWanted && time.Since(start) < patience {
			asked := time.Now()
			mutex.Lock()
			if waited := harness.Since(asked); waited > longest {
				longest = waited
			}
			work()
			modestTurns++
			mutex.Unlock()
			work()
		}
		atomic.StoreInt32(&over, 1)
		group.Done()
	}
	go func() {
		for atomic.LoadInt32(&over) == 0 && time.Since(start) < patience {
			mutex.Lock()
			if greedyTurns == 0 {
				go modest()
			}
			work()
			greedyTurns++
			mutex.Unlock()
		}
		group.Done()
	}()
	group.Wait()
	harness.Figure("starvation_total", "ms", harness.Since(start)/1e6)
	harness.Figure("starvation_longest_wait", "ms", longest/1e6)
	harness.Figure("starvation_greedy_turns", "times", float64(greedyTurns))
	harness.Figure("starvation_modest_turns", "times", float64(modestTurns))
	if modestTurns == 0 {
		modestTurns = 1
	}
	harness.Figure("starvation_greedy_turns_for_one", "turns",
		float64(greedyTurns)/float64(modestTurns))
}
