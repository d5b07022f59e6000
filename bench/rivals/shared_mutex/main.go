// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go, whose one lock is set against both of ours.
package main

import (
	"sync"

	"exeunt.invalid/rivals/harness"
)

func readAlone(count int) {
	var mutex sync.RWMutex
	for i := 0; i < count; i++ {
		mutex.RLock()
		mutex.RUnlock()
	}
}

func writeAlone(count int) {
	var mutex sync.RWMutex
	for i := 0; i < count; i++ {
		mutex.Lock()
		mutex.Unlock()
	}
}

var kept int64

func readByMany(count, goroutines int) {
	var mutex sync.RWMutex
	var group sync.WaitGroup
	written := 0
	share := count / goroutines
	sums := make([]int, goroutines)
	group.Add(goroutines)
	for g := 0; g < goroutines; g++ {
		g := g
		go func() {
			seen := 0
			for i := 1; i <= share; i++ {
				if i%1000 == 0 {
					mutex.Lock()
					written++
					mutex.Unlock()
				} else {
					mutex.RLock()
					seen += written
					mutex.RUnlock()
				}
			}
			sums[g] = seen
			group.Done()
		}()
	}
	group.Wait()
	for _, sum := range sums {
		kept += int64(sum)
	}
	harness.Require(written == share/1000*goroutines, "shared_mutex")
}

func main() {
	harness.Start()
	for _, name := range []string{"shared", "read_mostly"} {
		harness.PerOp(name+"_read_alone", 20_000_000, 1, readAlone)
		harness.PerOp(name+"_write_alone", 2_000_000, 1, writeAlone)
		harness.PerOp(name+"_999_reads_8_fibers", 8_000_000, 8,
			func(n int) { readByMany(n, 8) })
	}
}
