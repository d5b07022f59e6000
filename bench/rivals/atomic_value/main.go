// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"runtime"
	"sync"
	"sync/atomic"

	"exeunt.invalid/rivals/harness"
)

type config struct {
	number int
	more   [7]int
}

func look(count, goroutines, storeEvery int) {
	var value atomic.Value
	value.Store(&config{number: 1})
	var group sync.WaitGroup
	group.Add(goroutines)
	for i := 0; i < goroutines; i++ {
		go func() {
			share := count / goroutines
			sum := 0
			for j := 1; j <= share; j++ {
				if storeEvery != 0 && j%storeEvery == 0 {
					value.Store(&config{number: 1})
				}
				sum += value.Load().(*config).number
			}
			harness.Require(sum == share, "atomic_value")
			group.Done()
		}()
	}
	group.Wait()
}

func main() {
	harness.Start()
	fibers := runtime.GOMAXPROCS(0)
	harness.PerOp("value_load", 50_000_000, fibers, func(n int) { look(n, fibers, 0) })
	harness.PerOp("value_load_mostly", 20_000_000, fibers, func(n int) { look(n, fibers, 1000) })
}
