// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"encoding/binary"

	"exeunt.invalid/rivals/harness"
)

func bytes8(count int) {
	elements := make(chan int, 128)
	go func() {
		for i := 0; i < count; i++ {
			elements <- i
		}
	}()
	sum := 0
	for i := 0; i < count; i++ {
		sum += <-elements
	}
	check(sum, count)
}

func bytes64(count int) {
	elements := make(chan [8]int, 128)
	go func() {
		for i := 0; i < count; i++ {
			elements <- [8]int{i}
		}
	}()
	sum := 0
	for i := 0; i < count; i++ {
		sum += (<-elements)[0]
	}
	check(sum, count)
}

func text(count int) {
	elements := make(chan string, 128)
	go func() {
		var made [24]byte
		for i := 0; i < count; i++ {
			binary.LittleEndian.PutUint64(made[:], uint64(i))
			elements <- string(made[:])
		}
	}()
	sum := 0
	for i := 0; i < count; i++ {
		s := <-elements
		sum += int(s[0]) | int(s[1])<<8 | int(s[2])<<16 | int(s[3])<<24
	}
	check(sum, count)
}

func pointer(count int) {
	elements := make(chan *int, 128)
	go func() {
		for i := 0; i < count; i++ {
			made := new(int)
			*made = i
			elements <- made
		}
	}()
	sum := 0
	for i := 0; i < count; i++ {
		sum += *<-elements
	}
	check(sum, count)
}

func check(sum, count int) { harness.Require(sum == count*(count-1)/2, "elements") }

func main() {
	harness.Start()
	harness.PerOp("element_8_bytes", 4_000_000, 1, bytes8)
	harness.PerOp("element_64_bytes", 4_000_000, 1, bytes64)
	harness.PerOp("element_string", 2_000_000, 1, text)
	harness.PerOp("element_pointer", 2_000_000, 1, pointer)
}
