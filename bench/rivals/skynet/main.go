// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"runtime"
	"time"

	"exeunt.invalid/rivals/harness"
)

func node(up chan int, first, size int) {
	if size == 1 {
		up <- first
		return
	}
	sums := make(chan int)
	for i := 0; i < 10; i++ {
		go node(sums, first+i*(size/10), size/10)
	}
	sum := 0
	for i := 0; i < 10; i++ {
		sum += <-sums
	}
	up <- sum
}

func skynet(leaves int) {
	root := make(chan int)
	go node(root, 0, leaves)
	harness.Require(<-root == leaves*(leaves-1)/2, "skynet")
}

func main() {
	harness.Start()
	if !harness.Wants("skynet") {
		return
	}
	const leaves = 1_000_000
	skynet(leaves / 10)
	runtime.GC()
	start := time.Now()
	skynet(leaves)
	harness.Figure("skynet", "ns", harness.Since(start)/float64(leaves))
}
