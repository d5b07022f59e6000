// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"context"
	"time"

	"exeunt.invalid/rivals/harness"
)

var background = context.Background()

func cancel(count int) {
	for i := 0; i < count; i++ {
		ctx, end := context.WithCancel(background)
		end()
		if i%1000 == 0 {
			harness.Require(ctx.Err() != nil, "context_cancel")
		}
	}
}

func childCancel(count int) {
	parent, endParent := context.WithCancel(background)
	defer endParent()
	for i := 0; i < count; i++ {
		ctx, end := context.WithCancel(parent)
		end()
		if i%1000 == 0 {
			harness.Require(ctx.Err() != nil && parent.Err() == nil, "context_child_cancel")
		}
	}
}

func chainOf10(count int) {
	for i := 0; i < count; i++ {
		ctx, end := context.WithCancel(background)
		var ends [9]context.CancelFunc
		for depth := range ends {
			ctx, ends[depth] = context.WithCancel(ctx)
		}
		end()
		harness.Require(ctx.Err() != nil, "context_chain_10")
	}
}

func children(count int) {
	below := make([]context.Context, 1000)
	ends := make([]context.CancelFunc, 1000)
	for i := 0; i < count; i += 1000 {
		parent, end := context.WithCancel(background)
		for j := range below {
			below[j], ends[j] = context.WithCancel(parent)
		}
		end()
		harness.Require(below[999].Err() != nil, "context_1000_children")
	}
}

func timeoutCancel(count int) {
	for i := 0; i < count; i++ {
		ctx, end := context.WithTimeout(background, time.Hour)
		end()
		if i%1000 == 0 {
			harness.Require(ctx.Err() != nil, "context_timeout_cancel")
		}
	}
}

func err(count int) {
	ctx, end := context.WithCancel(background)
	defer end()
	ended := 0
	for i := 0; i < count; i++ {
		if ctx.Err() != nil {
			ended++
		}
	}
	harness.Require(ended == 0, "context_err")
}

type key int

func value(count int) {
	ctx := background
	for depth := 0; depth < 5; depth++ {
		ctx = context.WithValue(ctx, key(depth), depth+1)
	}
	sum := 0
	for i := 0; i < count; i++ {
		sum += ctx.Value(key(0)).(int)
	}
	harness.Require(sum == count, "context_value")
}

func main() {
	harness.Start()
	harness.PerOp("context_cancel", 2_000_000, 1, cancel)
	harness.PerOp("context_child_cancel", 2_000_000, 1, childCancel)
	harness.PerOp("context_chain_10", 200_000, 1, chainOf10)
	harness.PerOp("context_1000_children", 1_000_000, 1000, children)
	harness.PerOp("context_timeout_cancel", 1_000_000, 1, timeoutCancel)
	harness.PerOp("context_err", 50_000_000, 1, err)
	harness.PerOp("context_value_depth_5", 10_000_000, 1, value)
}
