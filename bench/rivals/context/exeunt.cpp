// SPDX-License-Identifier: Apache-2.0
// Contexts: made and cancelled alone, below a parent, ten deep, a thousand below one, and with a
// deadline; asked for their end and for a value five layers out.

#include <chrono>
#include <vector>

#include <exeunt/context/context.hpp>
#include <exeunt/sched/runtime.hpp>

#include "harness.hpp"

namespace {

using exeunt::context;
using exeunt::with_cancel_result;

void cancel(long count) {
  for (long i = 0; i < count; ++i) {
    auto [ctx, end] = exeunt::with_cancel(context::background());
    end();
    if (i % 1000 == 0) rivals::require(ctx.err().has_value(), "context_cancel");
  }
}

void child_cancel(long count) {
  auto [parent, end_parent] = exeunt::with_cancel(context::background());
  for (long i = 0; i < count; ++i) {
    auto [ctx, end] = exeunt::with_cancel(parent);
    end();
    if (i % 1000 == 0) rivals::require(ctx.err() && !parent.err(), "context_child_cancel");
  }
}

void chain_of_10(long count) {
  std::vector<with_cancel_result> chain;
  chain.reserve(10);
  for (long i = 0; i < count; ++i) {
    chain.push_back(exeunt::with_cancel(context::background()));
    while (chain.size() < 10) chain.push_back(exeunt::with_cancel(chain.back().ctx));
    chain.front().cancel();
    rivals::require(chain.back().ctx.err().has_value(), "context_chain_10");
    chain.clear();
  }
}

void children(long count) {
  std::vector<with_cancel_result> below;
  below.reserve(1000);
  for (long i = 0; i < count; i += 1000) {
    auto [parent, end] = exeunt::with_cancel(context::background());
    for (long j = 0; j < 1000; ++j) below.push_back(exeunt::with_cancel(parent));
    end();
    rivals::require(below.back().ctx.err().has_value(), "context_1000_children");
    below.clear();
  }
}

void timeout_cancel(long count) {
  for (long i = 0; i < count; ++i) {
    auto [ctx, end] = exeunt::with_timeout(context::background(), std::chrono::hours{1});
    end();
    if (i % 1000 == 0) rivals::require(ctx.err().has_value(), "context_timeout_cancel");
  }
}

void err(long count) {
  auto [ctx, end] = exeunt::with_cancel(context::background());
  long ended = 0;
  for (long i = 0; i < count; ++i) {
    if (ctx.err()) ++ended;
  }
  rivals::require(ended == 0, "context_err");
}

template <int Depth>
struct key {
  using type = long;
};

void value(long count) {
  const context first = exeunt::with_value<key<0>>(context::background(), 1);
  const context second = exeunt::with_value<key<1>>(first, 2);
  const context third = exeunt::with_value<key<2>>(second, 3);
  const context fourth = exeunt::with_value<key<3>>(third, 4);
  const context fifth = exeunt::with_value<key<4>>(fourth, 5);
  long sum = 0;
  for (long i = 0; i < count; ++i) sum += *fifth.value<key<0>>();
  rivals::require(sum == count, "context_value");
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run(
      [&] {
        bench.per_op("context_cancel", 2'000'000, 1, cancel);
        bench.per_op("context_child_cancel", 2'000'000, 1, child_cancel);
        bench.per_op("context_chain_10", 200'000, 1, chain_of_10);
        bench.per_op("context_1000_children", 1'000'000, 1000, children);
        bench.per_op("context_timeout_cancel", 1'000'000, 1, timeout_cancel);
        bench.per_op("context_err", 50'000'000, 1, err);
        bench.per_op("context_value_depth_5", 10'000'000, 1, value);
      },
      {.procs = bench.workers()});
}
