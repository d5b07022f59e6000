// SPDX-License-Identifier: Apache-2.0
// Goal:   firing, stopping, resetting, receiving and dropping may all happen at once.
// Method: do so; a stale value, a value out of thin air or freed memory trips an assertion or a
//         sanitizer.

#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/base/race.hpp>
#include <exeunt/base/random.hpp>
#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/time/timer.hpp>

#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

#ifdef EXEUNT_HAS_TSAN
constexpr int scale = 1;
#else
constexpr int scale = 10;
#endif

class timer_stress_test : public test::on_workers {};

TEST_P(timer_stress_test, one_timer_used_by_many) {
  run([] {
    timer t{1h};
    chan<void> done;
    constexpr int fiber_count = 6;
    for (std::uint64_t f = 1; f <= fiber_count; ++f) {
      go([&, f] {
        detail::random_source random{f};
        for (int i = 0; i < 200 * scale; ++i) {
          switch (random.below(4)) {
            case 0:
              t.stop();
              break;
            case 1:
              static_cast<void>(t.channel().try_recv());
              break;
            default:
              t.reset(std::chrono::microseconds{random.below(20)});
          }
        }
        done.send();
      });
    }
    for (int f = 0; f < fiber_count; ++f) EXPECT_TRUE(done.recv());
    t.reset(0s);
    EXPECT_TRUE(t.channel().recv());
    t.stop();
    EXPECT_FALSE(t.channel().try_recv());
  });
}

TEST_P(timer_stress_test, nothing_is_received_after_stop) {
  run([] {
    chan<void> done;
    constexpr int fiber_count = 4;
    for (std::uint64_t f = 1; f <= fiber_count; ++f) {
      go([=] {
        detail::random_source random{f};
        timer t{0s};
        for (int i = 0; i < 100 * scale; ++i) {
          const auto d = std::chrono::microseconds{random.below(5)};
          const auto before = clock::now();
          t.reset(d);
          if (random.below(2) == 0) yield();
          if (const auto value = t.channel().try_recv()) {
            EXPECT_GE(*value, before + d) << "of an earlier setting";
            EXPECT_FALSE(t.stop());
          } else if (random.below(2) == 0) {
            EXPECT_TRUE(t.stop());
          }
        }
        t.stop();
        EXPECT_FALSE(t.channel().try_recv());
        done.send();
      });
    }
    for (int f = 0; f < fiber_count; ++f) EXPECT_TRUE(done.recv());
  });
}

TEST_P(timer_stress_test, handles_are_dropped_while_they_fire) {
  run([] {
    chan<void> done;
    constexpr int fiber_count = 6;
    for (std::uint64_t f = 1; f <= fiber_count; ++f) {
      go([=] {
        detail::random_source random{f};
        for (int i = 0; i < 50 * scale; ++i) {
          const auto d = std::chrono::microseconds{random.below(30)};
          switch (random.below(4)) {
            case 0:
              EXPECT_TRUE(after(d).recv());
              break;
            case 1: {
              const auto dropped = after(d);
              yield();
              break;
            }
            case 2: {
              const timer call = after_func(d, [shared = done] { static_cast<void>(shared); });
              yield();
              break;
            }
            default: {
              const ticker t{1us + d};
              EXPECT_TRUE(t.channel().recv());
            }
          }
        }
        done.send();
      });
    }
    for (int f = 0; f < fiber_count; ++f) EXPECT_TRUE(done.recv());
  });
}

EXEUNT_ON_WORKERS(timer_stress_test);

}  // namespace
}  // namespace exeunt
