// SPDX-License-Identifier: Apache-2.0
// Selects that never end: their fibers are abandoned, hence a program of their own.

#include <exeunt/chan/select.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <string_view>

#include <exeunt/base/log.hpp>
#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/go.hpp>

#include "chan/parked.hpp"
#include "support/abandons.hpp"
#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using detail::wait_reason;
using test::until_parked;
using namespace std::chrono_literals;

class select_blocked_test : public test::on_workers {
 protected:
  // Runs `bodies`, which block for good, and expects that all of them are abandoned.
  template <typename... F>
  void expect_blocked(wait_reason why, F&&... bodies) {
    set_log_sink([](std::string_view) noexcept {});
    runtime workers{{.procs = GetParam()}};
    workers.run([&] {
      (go(bodies), ...);
      until_parked(sizeof...(F), why);
    });
    EXPECT_EQ(workers.stop(), sizeof...(F));
    set_log_sink(nullptr);
  }
};
EXEUNT_ON_WORKERS(select_blocked_test);

constexpr auto never = [](auto&&...) { ADD_FAILURE() << "a case that was not ready won"; };

TEST_P(select_blocked_test, se_03_nil_is_never_ready) {
  const chan<int> nil{nullptr};
  expect_blocked(
      wait_reason::chan_nil, [=] { nil.send(1); }, [=] { static_cast<void>(nil.recv()); },
      [=] { select(on_recv(nil, never)); }, [=] { select(on_send(nil, 1, never)); },
      [=] { select(on_recv(nil, never), on_send(nil, 1, never)); });
  run([&] {
    std::size_t won = select(on_recv(nil, never), on_send(nil, 1, never), otherwise([] {}));
    EXPECT_EQ(won, 2U);
    won = select(on_recv(nil, never), after(0ns, [] {}));
    EXPECT_EQ(won, 1U);
  });
}

TEST_P(select_blocked_test, se_04_without_cases) {
  expect_blocked(wait_reason::select_none, [] { select(); });
  const chan<int> idle;
  expect_blocked(wait_reason::select, [=] { select(on_recv(idle, never)); });
  run([] {
    EXPECT_EQ(select(otherwise([] {})), 0U);
    EXPECT_EQ(select(otherwise([] { return 7; })), 7);
  });
}

}  // namespace
}  // namespace exeunt
