// SPDX-License-Identifier: Apache-2.0

// Package harness is what all Go contenders share; it says and prints what ../harness.hpp does.
package harness

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strings"
	"time"
)

var (
	workers = flag.Int("workers", 1, "GOMAXPROCS")
	scale   = flag.Float64("scale", 1, "of the number of operations")
	only    = flag.String("only", "", "one figure's workload")
)

// Start reads the command line.
func Start() {
	flag.Parse()
	runtime.GOMAXPROCS(*workers)
}

// Wants tells whether to run the workload.
func Wants(name string) bool { return *only == "" || *only == name }

// Scaled is as many as full by -scale, at least 1, and a multiple of unit.
func Scaled(full, unit int) int {
	return max(int(float64(full)**scale)/unit, 1) * unit
}

// PerOp prints the nanoseconds of one of the operations that work does.
func PerOp(name string, full, unit int, work func(count int)) {
	if !Wants(name) {
		return
	}
	count := Scaled(full, unit)
	work(max(count/10/unit, 1) * unit)
	runtime.GC()
	start := time.Now()
	work(count)
	Figure(name, "ns", Since(start)/float64(count))
}

// Since is the nanoseconds passed.
func Since(start time.Time) float64 { return float64(time.Since(start).Nanoseconds()) }

// Figure prints one.
func Figure(name, unit string, value float64) { fmt.Printf("%s\t%s\t%.6g\n", name, unit, value) }

// Percentile is the value at percent of the sorted ones.
func Percentile(values []float64, percent int) float64 {
	sort.Float64s(values)
	at := len(values) * percent / 100
	if at >= len(values) {
		at = len(values) - 1
	}
	return values[at]
}

// ResidentBytes is the process's pages and page tables in memory.
func ResidentBytes() float64 {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		panic(err)
	}
	defer file.Close()
	total := 0.0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "VmPTE:") {
			var kib float64
			fmt.Sscanf(line[6:], "%f", &kib)
			total += kib
		}
	}
	return total * 1024
}

// Require ends a contender that computed something wrong.
func Require(holds bool, what string) {
	if !holds {
		panic("wrong result: " + what)
	}
}

func max(a, b int) int {
	if a > b {
		return a
	}
	return b
}
