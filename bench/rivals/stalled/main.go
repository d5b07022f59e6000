// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go, which has no lock that holds a thread.
package main

import (
	"runtime"
	"sync"
	"syscall"
	"time"

	"exeunt.invalid/rivals/harness"
)

func computeUntil(end time.Time) {
	for time.Now().Before(end) {
	}
}

func othersMeanwhile(name string, hold func(end time.Time), letGo func()) {
	if !harness.Wants(name) {
		return
	}
	period := time.Duration(harness.Scaled(2000, 1)) * time.Millisecond
	start := time.Now().Add(50 * time.Millisecond)
	end := start.Add(period)
	var late [64][]float64
	var others sync.WaitGroup
	others.Add(len(late))
	for i := range late {
		mine := &late[i]
		*mine = make([]float64, 0, period/time.Millisecond)
		go func() {
			for asleep := time.Now(); asleep.Before(end); {
				time.Sleep(time.Millisecond)
				awake := time.Now()
				if awake.After(start) {
					*mine = append(*mine, float64(awake.Sub(asleep)-time.Millisecond))
				}
				asleep = awake
			}
			others.Done()
		}()
	}
	time.Sleep(time.Until(start))
	var holders sync.WaitGroup
	holders.Add(runtime.GOMAXPROCS(0))
	for i := 0; i < runtime.GOMAXPROCS(0); i++ {
		go func() {
			hold(end)
			holders.Done()
		}()
	}
	others.Wait()
	letGo()
	holders.Wait()
	var all []float64
	for _, mine := range late {
		all = append(all, mine...)
	}
	harness.Require(len(all) > len(late), "somebody slept for less than all the time")
	harness.Figure(name+"_late_p50", "ns", harness.Percentile(all, 50))
	harness.Figure(name+"_late_p99", "ns", harness.Percentile(all, 99))
	harness.Figure(name+"_late_max", "ns", harness.Percentile(all, 100))
}

func inRead() {
	var ends [2]int
	harness.Require(syscall.Pipe(ends[:]) == nil, "pipe")
	othersMeanwhile("stalled_read", func(time.Time) {
		n, _ := syscall.Read(ends[0], make([]byte, 1))
		harness.Require(n == 1, "read")
	}, func() {
		for i := 0; i < runtime.GOMAXPROCS(0); i++ {
			n, _ := syscall.Write(ends[1], []byte{'x'})
			harness.Require(n == 1, "write")
		}
	})
	syscall.Close(ends[0])
	syscall.Close(ends[1])
}

func main() {
	harness.Start()
	inRead()
	othersMeanwhile("stalled_computing", computeUntil, func() {})
}
