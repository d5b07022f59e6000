// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"sync"

	"exeunt.invalid/rivals/harness"
)

func countUpAndDown(count int) {
	var group sync.WaitGroup
	group.Add(1)
	for i := 0; i < count; i++ {
		group.Add(1)
		group.Done()
	}
	group.Done()
	group.Wait()
}

func callOnce(count int) {
	var first sync.Once
	calls := 0
	for i := 0; i < count; i++ {
		first.Do(func() { calls++ })
	}
	harness.Require(calls == 1, "once")
}

func takeAUnit(count int) {
	units := make(chan struct{}, 8)
	for i := 0; i < count; i++ {
		units <- struct{}{}
		<-units
	}
}

func main() {
	harness.Start()
	harness.PerOp("wait_group_add_done", 50_000_000, 1, countUpAndDown)
	harness.PerOp("once_done", 200_000_000, 1, callOnce)
	harness.PerOp("semaphore_alone", 20_000_000, 1, takeAUnit)
}
