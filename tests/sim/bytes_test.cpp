// SPDX-License-Identifier: Apache-2.0
// What a schedule leaves of its memory is found, and what a cache keeps is not taken for that.

#include <exeunt/sim/bytes.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/context/after_func.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/group/errgroup.hpp>
#include <exeunt/net/conn.hpp>
#include <exeunt/net/listener.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/explore.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sim/network.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/wait_group.hpp>
#include <exeunt/time/timer.hpp>

#include "support/abandons.hpp"

// [count]
EXEUNT_SIM_COUNT_BYTES
// [count]

namespace exeunt {
namespace {

using namespace std::chrono_literals;

// What the tests leave on purpose, so that no sanitizer finds it, too. Does not grow inside.
class attic {
 public:
  attic() { kept_.reserve(100'000); }
  ~attic() {
    for (const auto& [memory, free] : kept_) free(memory);
  }
  void keep(void* memory, void (*free)(void*)) { kept_.emplace_back(memory, free); }

 private:
  std::vector<std::pair<void*, void (*)(void*)>> kept_;
};

std::string failure_of(const sim::explore_options& options, function_ref<void()> f) {
  try {
    sim::explore(options, f);
  } catch (const sim::failure& failed) {
    EXPECT_EQ(failed.why(), sim::failure::reason::left) << failed.what();
    return failed.what();
  }
  return {};
}

// Each form of the operators, and the one that takes its memory back.
struct form {
  const char* name;
  void* (*allocate)();
  void (*free)(void*);
};
constexpr std::align_val_t wide{64};

class bytes_of : public ::testing::TestWithParam<form> {};

TEST_P(bytes_of, what_is_freed_is_no_leak_and_what_is_left_is) {
  const form& one = GetParam();
  const sim::explore_options options{.name = "form", .schedules = 5, .check_bytes = true};
  EXPECT_EQ(failure_of(options, [&one] { one.free(one.allocate()); }), "");
  attic kept;
  const std::string left = failure_of(options, [&] { kept.keep(one.allocate(), one.free); });
  EXPECT_NE(left.find("bytes that were allocated inside are not freed"), left.npos) << left;
}

INSTANTIATE_TEST_SUITE_P(
    operators, bytes_of,
    ::testing::Values(
        form{"plain", [] { return ::operator new(48); }, [](void* p) { ::operator delete(p); }},
        form{"sized", [] { return ::operator new(48); }, [](void* p) { ::operator delete(p, 48); }},
        form{"array", [] { return ::operator new[](48); }, [](void* p) { ::operator delete[](p); }},
        form{"nothrow", [] { return ::operator new(48, std::nothrow); },
             [](void* p) { ::operator delete(p, std::nothrow); }},
        form{"aligned", [] { return ::operator new(48, wide); },
             [](void* p) { ::operator delete(p, wide); }},
        form{"aligned_array", [] { return ::operator new[](48, wide); },
             [](void* p) { ::operator delete[](p, 48, wide); }},
        form{"aligned_nothrow", [] { return ::operator new(48, wide, std::nothrow); },
             [](void* p) { ::operator delete(p, wide, std::nothrow); }}),
    [](const auto& one) { return std::string{one.param.name}; });

// Goal:   a leak that needs a preemption is found, with that preemption.
// Method: who comes second thinks that the other one frees what both share.
TEST(bytes, a_leak_in_some_schedules_is_found_there) {
  attic kept;
  const auto leak = [&kept] {
    mutex lock;
    int users = 2;
    auto* const shared = new int{1};
    const auto let_go = [&] {
      lock.lock();
      const int left = users;
      lock.unlock();
      lock.lock();
      users = left - 1;
      if (users == 0) {
        delete shared;
      }
      lock.unlock();
    };
    wait_group group;
    group.go(let_go);
    group.go(let_go);
    group.wait();
    if (users != 0) kept.keep(shared, [](void* p) { delete static_cast<int*>(p); });
  };
  const std::string report = failure_of({.name = "shared", .check_bytes = true}, leak);
  EXPECT_NE(report.find("with 1 preemption "), report.npos) << report;
  EXPECT_EQ(
      failure_of({.name = "shared", .preemptions = 0, .exhaustive = true, .check_bytes = true},
                 leak),
      "");
}

TEST(bytes, what_grows_once_is_no_leak) {
  std::vector<int> grows;
  std::unique_ptr<std::string> made_once;
  EXPECT_EQ(failure_of({.name = "caches", .schedules = 2'000, .check_bytes = true},
                       [&] {
                         grows.push_back(1);
                         if (!made_once) made_once = std::make_unique<std::string>(1000, 'x');
                       }),
            "");
  EXPECT_GE(grows.size(), 2'000U);
}

// Goal:   the library itself leaves nothing, nor does its growing count.
TEST(bytes, of_our_own_primitives_nothing_is_left) {
  const auto sum =
      sim::expect_explored({.name = "ours", .schedules = 300, .check_bytes = true}, [] {
        const sim::network wires;
        auto listener = net::listen("10.0.0.1:80");
        ASSERT_TRUE(listener);
        errgroup group{context::background()};
        const chan<std::string> lines{2};
        group.go([&](const context& ctx) {
          auto peer = listener->accept(ctx);
          if (!peer) return;
          const ticker beat{1s};
          for (int i = 0; i < 20; ++i) {
            lines.send(std::string(100, 'x'));
            static_cast<void>(beat.channel().recv());
          }
          lines.close();
        });
        group.go([&](const context& ctx) {
          auto peer = net::dial(ctx, "tcp", "10.0.0.1:80");
          EXPECT_TRUE(peer);
          for (const std::string& line : lines) EXPECT_EQ(line.size(), 100U);
        });
        const auto life = with_timeout(context::background(), 5s);
        after_func(life.ctx, [] {});
        select(on_done(life.ctx, [] {}), after(10s, [] {}));
        EXPECT_TRUE(group.wait());
        listener->close();
      });
  EXPECT_EQ(sum.schedules, 300U);
}

// What was made outside and is freed inside is not missed.
TEST(bytes, what_comes_from_outside_may_be_freed_inside) {
  std::vector<std::unique_ptr<int>> outside;
  for (int i = 0; i < 10; ++i) outside.push_back(std::make_unique<int>(i));
  EXPECT_EQ(failure_of({.name = "outside", .schedules = 5, .check_bytes = true},
                       [&] { outside.pop_back(); }),
            "");
}

}  // namespace
}  // namespace exeunt
