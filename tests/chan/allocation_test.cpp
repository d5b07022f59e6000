// SPDX-License-Identifier: Apache-2.0
// Sending, receiving and selecting allocate nothing.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <optional>

#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>

#include "support/allocations.hpp"
#include "support/on_workers.hpp"

#ifdef EXEUNT_COUNTS_ALLOCATIONS

namespace exeunt {
namespace {

class allocation_test : public test::on_workers {};
EXEUNT_ON_WORKERS(allocation_test);

// Runs `f` once to warm up whatever grows, then expects that it allocates nothing.
template <typename F>
void expect_no_allocation(F&& f) {
  f(1'000);
  const std::size_t before = test::allocations;
  f(1'000'000 / 4);
  EXPECT_EQ(test::allocations - before, 0U);
}

// One million selects in all, parked and not. Without time-outs: the runtime's timers are kept in
// arrays, which grow with the most there have ever been.
TEST_P(allocation_test, select_allocates_nothing) {
  run([] {
    const chan<int> there;
    const chan<int> back;
    const chan<int> idle;
    const chan<int> room{1};
    auto [ctx, cancel] = with_cancel(context::background());
    go([=] {
      for (bool more = true; more;) {
        select(on_recv(there,
                       [&](std::optional<int> v) {
                         more = v.has_value();
                         if (more) back.send(*v);
                       }),
               on_recv(idle, [] {}), on_done(ctx, [] {}));
      }
      back.close();
    });
    expect_no_allocation([&](int rounds) {
      for (int i = 0; i < rounds; ++i) {
        select(on_send(there, i, [] {}), on_recv(idle, [] {}));
        select(on_recv(back, [](auto) {}), on_recv(idle, [] {}), on_done(ctx, [] {}));
        select(on_send(room, i, [] {}), on_recv(room, [](auto) {}), on_recv(idle, [] {}));
        select(on_recv(idle, [] {}), otherwise([] {}));
      }
    });
    there.close();
    EXPECT_EQ(back.recv(), std::nullopt);
  });
}

TEST_P(allocation_test, send_and_recv_allocate_nothing) {
  run([] {
    const chan<int> there;
    const chan<int> back{2};
    auto [ctx, cancel] = with_cancel(context::background());
    go([=] {
      while (const auto v = there.recv(ctx)) {
        if (!back.send(ctx, *v)) break;
      }
      back.close();
    });
    expect_no_allocation([&](int rounds) {
      for (int i = 0; i < rounds; ++i) {
        there.send(i);
        EXPECT_EQ(back.recv(), i);
        EXPECT_FALSE(back.try_recv());
      }
    });
    there.close();
    EXPECT_EQ(back.recv(), std::nullopt);
  });
}

}  // namespace
}  // namespace exeunt

#endif
