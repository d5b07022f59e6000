// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"fmt"
	"sync"

	"exeunt.invalid/rivals/harness"
)

func compute(seed uint64, steps int) uint64 {
	for i := 0; i < steps; i++ {
		seed = seed*6364136223846793005 + 1442695040888963407
	}
	return seed
}

var kept uint64

func workPool(count, steps int) {
	const consumers = 8
	tasks := make(chan uint64, 100)
	results := make(chan uint64, 100)
	var group sync.WaitGroup
	group.Add(consumers + 1)
	for i := 0; i < consumers; i++ {
		go func() {
			for task := range tasks {
				results <- compute(task, steps)
			}
			group.Done()
		}()
	}
	go func() {
		for i := 0; i < count; i++ {
			tasks <- uint64(i)
		}
		close(tasks)
		group.Done()
	}()
	var sum uint64
	for i := 0; i < count; i++ {
		sum += <-results
	}
	group.Wait()
	kept = sum
}

func main() {
	harness.Start()
	for _, steps := range []int{100, 300, 1000, 3000, 10_000} {
		harness.PerOp(fmt.Sprintf("work_of_%d_steps", steps), 100_000_000/(steps+100), 1,
			func(n int) { workPool(n, steps) })
	}
}
