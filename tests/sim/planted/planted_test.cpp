// SPDX-License-Identifier: Apache-2.0
// Ten classic mistakes, each in a small program, and each program without it. An exploration finds
// each within the stated number of schedules, whichever of three seeds it begins with, and nothing
// in the repaired ones. Not for ThreadSanitizer: most of the mistakes are races.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/group/errgroup.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/explore.hpp>
#include <exeunt/sync/condition_variable.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/once.hpp>
#include <exeunt/sync/wait_group.hpp>
#include <exeunt/time/sleep.hpp>
#include <exeunt/time/timer.hpp>

#include "support/abandons.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using reason = sim::failure::reason;

// The flag is looked at without the lock: it may be set, and told of, before the wait begins.
void lost_wake_up(bool repaired) {
  mutex lock;
  condition_variable changed;
  bool ready = false;
  wait_group group;
  group.go([&] {
    if (repaired) {
      std::unique_lock held{lock};
      while (!ready) changed.wait(held);
    } else if (!ready) {
      std::unique_lock held{lock};
      changed.wait(held);
    }
  });
  group.go([&] {
    {
      const std::lock_guard held{lock};
      ready = true;
    }
    changed.notify_one();
  });
  group.wait();
}

// A relay that ends between taking a value and passing it on drops what it holds.
void select_loses_a_value(bool repaired) {
  const chan<int> in{1};
  const chan<int> out;
  int kept = 0;
  int received = 0;
  in.send(1);
  wait_group group;
  const auto life = with_cancel(context::background());
  group.go([&] {
    std::optional<int> held;
    select(on_recv(in, [&](std::optional<int> value) { held = value; }), on_done(life.ctx, [] {}));
    if (!held) return;
    select(on_send(out, *held, [&] { held.reset(); }), on_done(life.ctx, [] {}));
    if (repaired && held) kept += *held;
  });
  group.go([&] {
    select(on_recv(out, [&](std::optional<int> value) { received += *value; }),
           on_done(life.ctx, [] {}));
  });
  group.go([&] { life.cancel(); });
  group.wait();
  while (const auto left = in.try_recv()) kept += *left;
  sim::check(kept + received == 1, "the value is received or kept");
}

// A channel as lock. Who did not get in leaves nevertheless, and lets a third one in.
void unlock_by_the_wrong_side(bool repaired) {
  const chan<void> room{1};
  int inside = 0;
  const auto visit = [&](bool waits) {
    bool held = true;
    if (waits) {
      room.send();
    } else {
      held = room.try_send();
    }
    if (held) {
      sim::check(++inside == 1, "one at a time");
      yield();
      --inside;
    }
    if (held || !repaired) static_cast<void>(room.try_recv());
  };
  wait_group group;
  group.go([&] { visit(true); });
  group.go([&] { visit(false); });
  group.go([&] { visit(true); });
  group.wait();
}

// Both see that it is open, and both close.
void double_close(bool repaired) {
  const chan<int> c;
  bool closed = false;
  once closes;
  const auto end = [&] {
    if (repaired) {
      closes.call([&] { c.close(); });
    } else if (!closed) {
      c.close();
      closed = true;
    }
  };
  wait_group group;
  group.go(end);
  group.go(end);
  group.wait();
}

// The first answer is enough; nobody takes the second.
void forgotten_sender(bool repaired) {
  const chan<int> answers{repaired ? 2U : 0U};
  for (int i = 1; i <= 2; ++i) go([answers, i] { answers.send(i); });
  sim::check(answers.recv().has_value(), "an answer");
}

void lock_order_inversion(bool repaired) {
  mutex first;
  mutex second;
  wait_group group;
  group.go([&] {
    const std::lock_guard one{first};
    const std::lock_guard other{second};
  });
  group.go([&] {
    const std::lock_guard one{repaired ? first : second};
    const std::lock_guard other{repaired ? second : first};
  });
  group.wait();
}

// Two look at the balance, and both find enough.
void check_then_act(bool repaired) {
  mutex lock;
  int balance = 100;
  const auto withdraw = [&] {
    std::unique_lock held{lock};
    if (balance < 100) return;
    if (!repaired) {
      held.unlock();
      held.lock();
    }
    balance -= 100;
  };
  wait_group group;
  group.go(withdraw);
  group.go(withdraw);
  group.wait();
  sim::check(balance >= 0, "no more than there is");
}

// A call that was due when the timer was set anew runs all the same, and ends what is in use.
void timer_stale_after_reset(bool repaired) {
  mutex lock;
  clock::time_point used = clock::now();
  bool expired = false;
  timer expiry = after_func(1s, [&] {
    const std::lock_guard held{lock};
    if (repaired && clock::now() - used < 1s) return;
    expired = true;
  });
  sleep(1s);
  {
    const std::lock_guard held{lock};
    if (expired) return;
    used = clock::now();
    expiry.reset(1s);
  }
  sleep(500ms);
  {
    const std::lock_guard held{lock};
    sim::check(!expired, "not half a second after its use");
  }
  sleep(1s);
}

// A task waits for room in its own group, and has the last.
void errgroup_limit_deadlock(bool repaired) {
  errgroup group{context::background()};
  group.set_limit(repaired ? 2 : 1);
  group.go([&](const context&) { group.go([](const context&) {}); });
  static_cast<void>(group.wait());
}

// A request that ends early leaves its context, and who waits for that, to a list.
void context_leak(bool repaired) {
  std::vector<cancel_func> pending;
  const auto serve = [&](bool ends_early) {
    auto life = with_cancel(context::background());
    go([ctx = context{life.ctx}] { ctx.wait(); });
    if (ends_early && !repaired) {
      static std::vector<cancel_func>* const forgotten = new std::vector<cancel_func>;
      forgotten->push_back(std::move(life.cancel));
    }
  };
  serve(false);
  serve(true);
}

struct mistake {
  const char* name;
  void (*program)(bool repaired);
  reason why;
  std::uint64_t found_within;
};

constexpr mistake mistakes[] = {
    {"lost_wake_up", lost_wake_up, reason::deadlock, 50},
    {"select_loses_a_value", select_loses_a_value, reason::check, 50},
    {"unlock_by_the_wrong_side", unlock_by_the_wrong_side, reason::check, 50},
    {"double_close", double_close, reason::exception, 50},
    {"forgotten_sender", forgotten_sender, reason::left, 1},
    {"lock_order_inversion", lock_order_inversion, reason::deadlock, 50},
    {"check_then_act", check_then_act, reason::check, 50},
    {"timer_stale_after_reset", timer_stale_after_reset, reason::check, 50},
    {"errgroup_limit_deadlock", errgroup_limit_deadlock, reason::deadlock, 1},
    {"context_leak", context_leak, reason::left, 1},
};

class planted : public ::testing::TestWithParam<mistake> {};
INSTANTIATE_TEST_SUITE_P(mistakes, planted, ::testing::ValuesIn(mistakes),
                         [](const auto& one) { return std::string{one.param.name}; });

TEST_P(planted, is_found) {
  for (const std::uint64_t seed : {1U, 1'000U, 1'000'000U}) {
    try {
      sim::explore({.name = GetParam().name, .schedules = GetParam().found_within, .seed = seed},
                   [] { GetParam().program(false); });
      ADD_FAILURE() << "not found with seed " << seed;
    } catch (const sim::failure& found) {
      EXPECT_EQ(found.why(), GetParam().why) << found.what();
      EXPECT_NE(std::string{found.what()}.find("EXEUNT_SIM_REPLAY"), std::string::npos);
    }
  }
}

TEST_P(planted, is_not_found_once_repaired) {
  const auto sum =
      sim::explore({.name = GetParam().name, .schedules = 2'000}, [] { GetParam().program(true); });
  EXPECT_EQ(sum.schedules, 2'000U);
}

}  // namespace
}  // namespace exeunt
