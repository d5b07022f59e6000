// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"runtime"
	"sync"

	"exeunt.invalid/rivals/harness"
)

type buffer struct {
	words [8]uint64
}

func newPool() *sync.Pool {
	return &sync.Pool{New: func() any { return new(buffer) }}
}

func getAndPut(count, goroutines, atOnce int) {
	buffers := newPool()
	var group sync.WaitGroup
	group.Add(goroutines)
	for i := 0; i < goroutines; i++ {
		go func() {
			mine := make([]*buffer, atOnce)
			for j := 0; j < count/goroutines; j += atOnce {
				for k := range mine {
					mine[k] = buffers.Get().(*buffer)
					mine[k].words[0]++
				}
				for k := range mine {
					buffers.Put(mine[k])
				}
			}
			group.Done()
		}()
	}
	group.Wait()
}

func passOn(count int) {
	buffers := newPool()
	line := make(chan *buffer, 64)
	var group sync.WaitGroup
	group.Add(2)
	go func() {
		for i := 0; i < count; i++ {
			line <- buffers.Get().(*buffer)
		}
		close(line)
		group.Done()
	}()
	go func() {
		for one := range line {
			one.words[0]++
			buffers.Put(one)
		}
		group.Done()
	}()
	group.Wait()
}

func main() {
	harness.Start()
	n := runtime.GOMAXPROCS(0)
	harness.PerOp("pool_get_put", 50_000_000, n, func(count int) { getAndPut(count, n, 1) })
	harness.PerOp("pool_eight_at_once", 50_000_000, 8*n, func(count int) { getAndPut(count, n, 8) })
	harness.PerOp("pool_passed_on", 5_000_000, 1, passOn)
}
