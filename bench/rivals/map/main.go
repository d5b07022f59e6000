// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go, with sync.Map.
package main

import (
	"flag"
	"sync"

	"exeunt.invalid/rivals/harness"
)

const keys = 1_000_000

func next(state *uint64) uint64 {
	*state ^= *state << 13
	*state ^= *state >> 7
	*state ^= *state << 17
	return *state
}

func use(numbers *sync.Map, count, goroutines int) {
	var group sync.WaitGroup
	group.Add(goroutines)
	for i := 0; i < goroutines; i++ {
		go func(i int) {
			state := 88172645463325252 + uint64(i)
			found := 0
			for j := 0; j < count/goroutines; j++ {
				chance := next(&state)
				key := chance % keys
				if (chance>>32)%10 == 0 {
					numbers.Store(key, key)
				} else if value, _ := numbers.Load(key); value.(uint64) == key {
					found++
				}
			}
			harness.Require(found > 0, "map")
			group.Done()
		}(i)
	}
	group.Wait()
}

func main() {
	harness.Start()
	var numbers sync.Map
	for key := uint64(0); key < keys; key++ {
		numbers.Store(key, key)
	}
	goroutines := flag.Lookup("workers").Value.(flag.Getter).Get().(int)
	harness.PerOp("map_90_reads", 10_000_000, goroutines, func(n int) { use(&numbers, n, goroutines) })
}
