// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"fmt"
	"sync"

	"exeunt.invalid/rivals/harness"
)

func transfer(count, capacity, producers, consumers int) {
	numbers := make(chan int, capacity)
	var producing, consuming sync.WaitGroup
	producing.Add(producers)
	consuming.Add(consumers)
	for i := 0; i < producers; i++ {
		go func() {
			for j := 0; j < count/producers; j++ {
				numbers <- j
			}
			producing.Done()
		}()
	}
	for i := 0; i < consumers; i++ {
		go func() {
			for <-numbers >= 0 {
			}
			consuming.Done()
		}()
	}
	producing.Wait()
	for i := 0; i < consumers; i++ {
		numbers <- -1
	}
	consuming.Wait()
}

func sendRecvSame(count int) {
	numbers := make(chan int, 128)
	sum := 0
	for i := 0; i < count; i++ {
		numbers <- i
		sum += <-numbers
	}
	if sum != count*(count-1)/2 {
		panic("lost")
	}
}

func main() {
	harness.Start()
	harness.PerOp("transfer_unbuffered", 2_000_000, 1, func(n int) { transfer(n, 0, 1, 1) })
	harness.PerOp("transfer_128", 4_000_000, 1, func(n int) { transfer(n, 128, 1, 1) })
	harness.PerOp("fan_in_8_to_1", 4_000_000, 8, func(n int) { transfer(n, 128, 8, 1) })
	for k := 1; k <= 64; k *= 2 {
		name := fmt.Sprintf("transfer_%d_to_%d", k, k)
		harness.PerOp(name, 2_000_000, k, func(n int) { transfer(n, 100, k, k) })
	}
	harness.PerOp("send_recv_same", 20_000_000, 1, sendRecvSame)
}
