// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"sync"

	"exeunt.invalid/rivals/harness"
)

const ringSize = 1000

func member(in, out, done chan int, isLast bool) {
	for {
		left := <-in
		switch {
		case left < 0:
			if !isLast {
				out <- left
			}
			return
		case left == 0:
			done <- left
		default:
			out <- left - 1
		}
	}
}

func ring(count int) {
	links := make([]chan int, ringSize)
	for i := range links {
		links[i] = make(chan int)
	}
	done := make(chan int)
	var group sync.WaitGroup
	group.Add(ringSize)
	for i := 0; i < ringSize; i++ {
		i := i
		go func() {
			member(links[i], links[(i+1)%ringSize], done, i == ringSize-1)
			group.Done()
		}()
	}
	links[0] <- count
	<-done
	links[0] <- -1
	group.Wait()
}

func main() {
	harness.Start()
	harness.PerOp("ring_1000", 1_000_000, 1, ring)
}
