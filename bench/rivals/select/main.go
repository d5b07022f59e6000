// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"sync"

	"exeunt.invalid/rivals/harness"
)

func buffered(count int) []chan int {
	made := make([]chan int, count)
	for i := range made {
		made[i] = make(chan int, 1)
	}
	return made
}

func oneOf2Ready(count int) {
	c := buffered(2)
	for i := 0; i < count; i++ {
		c[i%2] <- i
		select {
		case <-c[0]:
		case <-c[1]:
		}
	}
}

func oneOf4Ready(count int) {
	c := buffered(4)
	for i := 0; i < count; i++ {
		c[i%4] <- i
		select {
		case <-c[0]:
		case <-c[1]:
		case <-c[2]:
		case <-c[3]:
		}
	}
}

func oneOf8Ready(count int) {
	c := buffered(8)
	for i := 0; i < count; i++ {
		c[i%8] <- i
		select {
		case <-c[0]:
		case <-c[1]:
		case <-c[2]:
		case <-c[3]:
		case <-c[4]:
		case <-c[5]:
		case <-c[6]:
		case <-c[7]:
		}
	}
}

func noneReady(count int) {
	c := make(chan int)
	for i := 0; i < count; i++ {
		select {
		case <-c:
		default:
		}
	}
}

func pingPong(count int) {
	there, back, never := make(chan int), make(chan int), make(chan int)
	var group sync.WaitGroup
	group.Add(1)
	go func() {
		for i := 0; i < count; i++ {
			select {
			case <-there:
			case <-never:
			}
			select {
			case back <- i:
			case <-never:
			}
		}
		group.Done()
	}()
	for i := 0; i < count; i++ {
		select {
		case there <- i:
		case <-never:
		}
		select {
		case <-back:
		case <-never:
		}
	}
	group.Wait()
}

func main() {
	harness.Start()
	harness.PerOp("select_2_ready", 2_000_000, 1, oneOf2Ready)
	harness.PerOp("select_4_ready", 1_000_000, 1, oneOf4Ready)
	harness.PerOp("select_8_ready", 1_000_000, 1, oneOf8Ready)
	harness.PerOp("select_none_ready", 20_000_000, 1, noneReady)
	harness.PerOp("select_ping_pong", 500_000, 1, pingPong)
}
