// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import "exeunt.invalid/rivals/harness"

func sieve(limit int) int {
	numbers := make(chan int)
	go func(out chan<- int) {
		for i := 2; i <= limit; i++ {
			out <- i
		}
		out <- 0
	}(numbers)
	primes := 0
	for {
		prime := <-numbers
		if prime == 0 {
			return primes
		}
		primes++
		rest := make(chan int)
		go func(in <-chan int, out chan<- int) {
			for {
				number := <-in
				if number == 0 || number%prime != 0 {
					out <- number
				}
				if number == 0 {
					return
				}
			}
		}(numbers, rest)
		numbers = rest
	}
}

func main() {
	harness.Start()
	harness.PerOp("sieve_1000", 4_000, 1000, func(primes int) {
		for ; primes > 0; primes -= 1000 {
			harness.Require(sieve(7919) == 1000, "sieve_1000")
		}
	})
	harness.PerOp("sieve_2500", 5_000, 2500, func(primes int) {
		for ; primes > 0; primes -= 2500 {
			harness.Require(sieve(22307) == 2500, "sieve_2500")
		}
	})
}
