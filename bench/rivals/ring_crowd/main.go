// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"fmt"
	"sync"

	"exeunt.invalid/rivals/harness"
)

const hops = 3_000_000

func measure(size int) {
	name := fmt.Sprintf("ring_crowd_%d", size)
	if !harness.Wants(name) {
		return
	}
	links := make([]chan int, size+1)
	for i := range links {
		links[i] = make(chan int)
	}
	var members sync.WaitGroup
	members.Add(size)
	for i := 0; i < size; i++ {
		in, out := links[i], links[i+1]
		go func() {
			for value := range in {
				out <- value + 1
			}
			close(out)
			members.Done()
		}()
	}
	harness.PerOp(name, hops, size, func(n int) {
		for i := 0; i < n/size; i++ {
			links[0] <- 0
			harness.Require(<-links[size] == size, "ring_crowd")
		}
	})
	close(links[0])
	<-links[size]
	members.Wait()
}

func main() {
	harness.Start()
	for size := 10; size <= 1_000_000; size *= 10 {
		measure(size)
	}
}
