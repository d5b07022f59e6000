// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"sync"

	"exeunt.invalid/rivals/harness"
)

func spawnJoin(count, batch int) {
	var group sync.WaitGroup
	for i := 0; i < count; i += batch {
		group.Add(batch)
		for j := 0; j < batch; j++ {
			go func() { group.Done() }()
		}
		group.Wait()
	}
}

func main() {
	harness.Start()
	harness.PerOp("spawn_join_batch", 1_000_000, 10_000, func(n int) { spawnJoin(n, 10_000) })
	harness.PerOp("spawn_join_one", 500_000, 1, func(n int) { spawnJoin(n, 1) })
}
