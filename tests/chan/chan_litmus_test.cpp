// SPDX-License-Identifier: Apache-2.0
// The classic small programs that tell memory models apart, by channels: operations on channels
// appear in one order, which keeps each party's own (docs/semantics.md, L10).
//
// Each party is the only fiber of a runtime of one worker, so that all run at once. They meet at a
// barrier before each round. Without the fence in show_all(), store_buffering finds its outcome
// within some thousand rounds on a machine with two cores.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/sched/runtime.hpp>

namespace exeunt {
namespace {

#if defined(EXEUNT_TSAN) || defined(EXEUNT_ASAN)
constexpr int rounds = 2'000;
#else
constexpr int rounds = 20'000;
#endif

// Lets nobody go on before all have come.
class barrier {
 public:
  explicit barrier(std::size_t parties) : parties_{parties} {}
  void meet(std::size_t round) {
    const std::size_t all = (round + 1) * parties_;
    arrived_.fetch_add(1);
    for (int looks = 0; arrived_.load() < all; ++looks) {
      if (looks > 1000) std::this_thread::yield();
    }
  }

 private:
  const std::size_t parties_;
  std::atomic<std::size_t> arrived_{0};
};

// Runs `steps` at once in each round, and then `judge`, alone.
void repeat(const std::vector<std::function<void()>>& steps, const std::function<void()>& judge) {
  barrier before{steps.size()};
  barrier after{steps.size()};
  barrier judged{steps.size()};
  std::vector<std::thread> parties;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    parties.emplace_back([&, i] {
      runtime alone{{.procs = 1}};
      alone.run([&] {
        for (std::size_t round = 0; round < rounds; ++round) {
          before.meet(round);
          steps[i]();
          after.meet(round);
          if (i == 0) judge();
          judged.meet(round);
        }
      });
    });
  }
  for (std::thread& one : parties) one.join();
}

void drain(const chan<int>& c) {
  while (c.try_recv()) {
  }
}

using look = bool (*)(const chan<int>&);

bool by_try_recv(const chan<int>& c) { return c.try_recv().has_value(); }

bool by_select(const chan<int>& c) {
  return select(on_recv(c, [](std::optional<int>) { return true; }),
                otherwise([] { return false; }));
}

bool by_select_of_two(const chan<int>& c) {
  const chan<int> empty;
  return select(on_recv(c, [](std::optional<int>) { return true; }),
                on_recv(empty, [](std::optional<int>) { return false; }),
                otherwise([] { return false; }));
}

// Goal:   of two that each send and then look for what the other has sent, one finds it.
// Method: all ways to look.
TEST(chan_litmus, store_buffering) {
  for (const look found : {look{by_try_recv}, look{by_select}, look{by_select_of_two}}) {
    const chan<int> x{1};
    const chan<int> y{1};
    bool first = false;
    bool second = false;
    int neither = 0;
    repeat({[&] { x.send(1), first = found(y); }, [&] { y.send(1), second = found(x); }}, [&] {
      neither += first || second ? 0 : 1;
      drain(x);
      drain(y);
    });
    EXPECT_EQ(neither, 0);
  }
}

// Goal:   the same of who makes room and then looks for room.
// Method: both channels are full.
TEST(chan_litmus, store_buffering_of_room) {
  const chan<int> x{1};
  const chan<int> y{1};
  x.send(0);
  y.send(0);
  bool first = false;
  bool second = false;
  int neither = 0;
  const auto empty_then_fill = [](const chan<int>& mine, const chan<int>& theirs) {
    static_cast<void>(mine.recv());
    return theirs.try_send(1);
  };
  repeat({[&] { first = empty_then_fill(x, y); }, [&] { second = empty_then_fill(y, x); }}, [&] {
    neither += first || second ? 0 : 1;
    static_cast<void>(x.try_send(0));
    static_cast<void>(y.try_send(0));
  });
  EXPECT_EQ(neither, 0);
}

// Goal:   who finds the second of two sends finds the first, too.
TEST(chan_litmus, message_passing) {
  const chan<int> data{1};
  const chan<int> flag{1};
  int lost = 0;
  repeat({[&] { data.send(1), flag.send(1); },
          [&] {
            if (flag.try_recv() && !data.try_recv()) ++lost;
          }},
         [&] {
           drain(data);
           drain(flag);
         });
  EXPECT_EQ(lost, 0);
}

// Goal:   two that look at two independent writes do not see them in opposite orders.
// Method: the writes are closes, which all who look can see, as often as they like.
TEST(chan_litmus, independent_reads_of_independent_writes) {
  struct seen {
    bool earlier = false;
    bool later = false;
  };
  std::optional<chan<int>> x{1U};
  std::optional<chan<int>> y{1U};
  seen third;
  seen fourth;
  int opposite = 0;
  repeat({[&] { x->close(); }, [&] { y->close(); },
          [&] {
            third.earlier = by_select(*x);
            third.later = by_select(*y);
          },
          [&] {
            fourth.earlier = by_select(*y);
            fourth.later = by_select(*x);
          }},
         [&] {
           opposite += third.earlier && !third.later && fourth.earlier && !fourth.later ? 1 : 0;
           x.emplace(1U);
           y.emplace(1U);
         });
  EXPECT_EQ(opposite, 0);
}

}  // namespace
}  // namespace exeunt
