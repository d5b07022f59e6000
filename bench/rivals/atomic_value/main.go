// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"exeunt.invalid/rivals/harness"
)

type config struct {
	number int
	more   [7]int
}

// As beside_writer.hpp's.
const looksInARow = 1000

func look(count, goroutines int, stores bool) {
	var value atomic.Value
	value.Store(&config{number: 1})
	var group sync.WaitGroup
	group.Add(goroutines)
	for i := 0; i < goroutines; i++ {
		go func() {
			share := count / goroutines
			sum := 0
			for left := share; left > 0; left -= looksInARow {
				for j := 0; j < looksInARow; j++ {
					sum += value.Load().(*config).number
				}
				if stores {
					value.Store(&config{number: 1})
				}
			}
			harness.Require(sum == share, "atomic_value")
			group.Done()
		}()
	}
	group.Wait()
}

func lookBesideWriter(period time.Duration) (loadNs, storeNs float64) {
	var value atomic.Value
	value.Store(&config{number: 1})
	var over int32
	var group sync.WaitGroup
	group.Add(2)
	go func() {
		start, count := time.Now(), 0
		for ; atomic.LoadInt32(&over) == 0; count++ {
			value.Store(&config{number: 1})
		}
		storeNs = harness.Since(start) / float64(count)
		group.Done()
	}()
	go func() {
		start, count := time.Now(), 0
		for ; time.Since(start) < period; count += looksInARow {
			for i := 0; i < looksInARow; i++ {
				harness.Require(value.Load().(*config).number == 1, "atomic_value")
			}
		}
		loadNs = harness.Since(start) / float64(count)
		atomic.StoreInt32(&over, 1)
		group.Done()
	}()
	group.Wait()
	return loadNs, storeNs
}

func besideWriter() {
	if !harness.Wants("value_beside_writer") || runtime.GOMAXPROCS(0) < 2 {
		return
	}
	period := time.Duration(harness.Scaled(1000, 1)) * time.Millisecond
	lookBesideWriter(period / 10)
	runtime.GC()
	loadNs, storeNs := lookBesideWriter(period)
	harness.Figure("value_load_beside_writer", "ns", loadNs)
	harness.Figure("value_store_beside_reader", "ns", storeNs)
}

func main() {
	harness.Start()
	fibers := runtime.GOMAXPROCS(0)
	unit := looksInARow * fibers
	harness.PerOp("value_load", 50_000_000, unit, func(n int) { look(n, fibers, false) })
	harness.PerOp("value_load_mostly", 20_000_000, unit, func(n int) { look(n, fibers, true) })
	besideWriter()
}
