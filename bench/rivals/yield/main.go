// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"runtime"
	"sync"

	"exeunt.invalid/rivals/harness"
)

func yielders(count, goroutines int) {
	var group sync.WaitGroup
	group.Add(goroutines)
	for i := 0; i < goroutines; i++ {
		go func() {
			for j := 0; j < count/goroutines; j++ {
				runtime.Gosched()
			}
			group.Done()
		}()
	}
	group.Wait()
}

func main() {
	harness.Start()
	harness.PerOp("yield_2", 4_000_000, 2, func(n int) { yielders(n, 2) })
	harness.PerOp("yield_1000", 4_000_000, 1000, func(n int) { yielders(n, 1000) })
}
