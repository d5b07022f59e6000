// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"context"

	"exeunt.invalid/rivals/errgroup/group"
	"exeunt.invalid/rivals/harness"
)

func tenTasks(g *group.Group) {
	var parts [10]int
	for i := range parts {
		part := &parts[i]
		g.Go(func() error { *part = 1; return nil })
	}
	harness.Require(g.Wait() == nil, "errgroup")
	sum := 0
	for _, part := range parts {
		sum += part
	}
	harness.Require(sum == 10, "errgroup")
}

func withContext(count int) {
	for i := 0; i < count; i++ {
		g, _ := group.WithContext(context.Background())
		tenTasks(g)
	}
}

func withoutContext(count int) {
	for i := 0; i < count; i++ {
		tenTasks(new(group.Group))
	}
}

func main() {
	harness.Start()
	harness.PerOp("errgroup_10", 100_000, 1, withContext)
	harness.PerOp("errgroup_10_plain", 100_000, 1, withoutContext)
}
