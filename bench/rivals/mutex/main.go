// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"sync"

	"exeunt.invalid/rivals/harness"
)

func lockAlone(count int) {
	var mutex sync.Mutex
	for i := 0; i < count; i++ {
		mutex.Lock()
		mutex.Unlock()
	}
}

func lockByMany(count, goroutines int) {
	var mutex sync.Mutex
	var group sync.WaitGroup
	total := 0
	group.Add(goroutines)
	for i := 0; i < goroutines; i++ {
		go func() {
			for j := 0; j < count/goroutines; j++ {
				mutex.Lock()
				total++
				mutex.Unlock()
			}
			group.Done()
		}()
	}
	group.Wait()
	harness.Require(total == count, "mutex")
}

func main() {
	harness.Start()
	harness.PerOp("mutex_uncontended", 20_000_000, 1, lockAlone)
	harness.PerOp("mutex_2_fibers", 4_000_000, 2, func(n int) { lockByMany(n, 2) })
	harness.PerOp("mutex_8_fibers", 4_000_000, 8, func(n int) { lockByMany(n, 8) })
	harness.PerOp("mutex_64_fibers", 4_000_000, 64, func(n int) { lockByMany(n, 64) })
}
