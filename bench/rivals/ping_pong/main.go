// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import "exeunt.invalid/rivals/harness"

func pingPong(count int) {
	there, back := make(chan int), make(chan int)
	go func() {
		for i := 0; i < count; i++ {
			back <- <-there
		}
	}()
	for i := 0; i < count; i++ {
		there <- i
		harness.Require(<-back == i, "ping_pong")
	}
}

func main() {
	harness.Start()
	harness.PerOp("ping_pong", 1_000_000, 1, pingPong)
}
