// SPDX-License-Identifier: Apache-2.0
// The memory model's edges: what a channel orders, and what it does not. ThreadSanitizer is the
// judge, so without it only the orderly shapes run, and they prove little.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <utility>

#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/sched/go.hpp>

#include "chan/parked.hpp"
#include "support/explored.hpp"
#include "support/race.hpp"

namespace exeunt {
namespace {

using detail::wait_reason;
using test::until_parked;

class chan_order : public test::explored {};
EXEUNT_EXPLORED(chan_order);

// RD-01: a send comes before its receive, and unbuffered the receive before the send's return.
TEST_P(chan_order, rd_01_rendezvous) {
  run([] {
    for (const bool receiver_first : {false, true}) {
      int v = 0;
      const chan<int> c;
      const chan<void> over;
      go([&] {
        v = 1;
        c.send(0);
        over.send();
      });
      if (!receiver_first) until_parked(1, wait_reason::chan_send);
      EXPECT_EQ(c.recv(), 0);
      v = 2;
      EXPECT_TRUE(over.recv());

      int w = 0;
      // Which of the two receives first is not ordered.
      go([&] {
        EXPECT_TRUE(c.recv().has_value());
        over.send();
      });
      go([&] {
        w = 1;
        EXPECT_TRUE(c.recv().has_value());
        over.send();
      });
      if (receiver_first) until_parked(2, wait_reason::chan_recv);
      c.send(0);
      c.send(1);
      EXPECT_TRUE(over.recv());
      EXPECT_TRUE(over.recv());
      w = 2;
    }
  });
}

// RD-03: a close comes before a receive that sees it, parked or not.
TEST_P(chan_order, rd_03_close) {
  run([] {
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{10}}) {
      for (const int form : {0, 1, 2}) {
        int v = 0;
        const chan<int> c{capacity};
        go([&v, c, form] {
          v = 1;
          if (form == 2) until_parked(1, wait_reason::chan_recv);
          c.close();
        });
        if (form == 0) {
          for ([[maybe_unused]] const int none : c) FAIL();
        } else {
          EXPECT_EQ(c.recv(), std::nullopt);
        }
        v = 2;
      }
    }
  });
}

// RD-05: a channel with room for one is a lock.
TEST_P(chan_order, rd_05_a_channel_as_lock) {
  run([] {
    const int rounds = is_simulated() ? 5 : 500;
    const chan<void> lock{1};
    const chan<void> idle;
    const chan<void> over{4};
    int guarded = 0;
    for (int f = 0; f < 4; ++f) {
      go([&, f] {
        for (int i = 0; i < rounds; ++i) {
          if (f % 2 == 0) {
            lock.send();
            ++guarded;
            EXPECT_TRUE(lock.recv());
          } else {
            select(on_send(lock, [] {}), on_recv(idle, [] {}));
            ++guarded;
            select(on_recv(lock, [] {}), on_recv(idle, [] {}));
          }
          if (i % 16 == 0) yield();
        }
        over.send();
      });
    }
    for (int f = 0; f < 4; ++f) EXPECT_TRUE(over.recv());
    EXPECT_EQ(guarded, 4 * rounds);
  });
}

// The other way round: who receives has the lock, so waiting is done by parked receivers, and a
// send hands it to one of them past the ring.
TEST_P(chan_order, a_token_as_lock) {
  run([] {
    const int rounds = is_simulated() ? 5 : 500;
    const chan<void> token{1};
    const chan<void> over{4};
    int guarded = 0;
    token.send();
    for (int f = 0; f < 4; ++f) {
      go([&] {
        for (int i = 0; i < rounds; ++i) {
          EXPECT_TRUE(token.recv());
          ++guarded;
          if (i % 16 == 0) yield();
          token.send();
        }
        over.send();
      });
    }
    for (int f = 0; f < 4; ++f) EXPECT_TRUE(over.recv());
    EXPECT_EQ(guarded, 4 * rounds);
  });
}

// RD-09: what is reached through a value belongs to who has received it; through rings with
// parked senders, too.
TEST_P(chan_order, rd_09_values_change_hands) {
  run([] {
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}, std::size_t{3}}) {
      struct task {
        int x;
        chan<int> reply;
      };
      const chan<std::unique_ptr<task>> tasks{capacity};
      const chan<void> over{4};
      for (int f = 0; f < 4; ++f) {
        go([=] {
          for (int i = 0; i < (is_simulated() ? 5 : 200); ++i) {
            const chan<int> reply{1};
            auto one = std::make_unique<task>(task{i, reply});
            tasks.send(std::move(one));
            EXPECT_EQ(reply.recv(), i + 1);
          }
          over.send();
        });
      }
      go([=] {
        for (std::unique_ptr<task> one : tasks) {
          if (one->x % 8 == 0) yield();
          ++one->x;
          one->reply.send(one->x);
        }
      });
      for (int f = 0; f < 4; ++f) EXPECT_TRUE(over.recv());
      tasks.close();
    }
  });
}

// RD-12: size and capacity may be asked for at any time.
TEST_P(chan_order, rd_12_counts) {
  run([] {
    const chan<int> c{2};
    const chan<void> over;
    go([=] {
      for (int i = 0; i < 100; ++i) EXPECT_LE(c.size(), c.capacity());
      over.send();
    });
    c.close();
    EXPECT_TRUE(over.recv());
  });
}

#ifdef EXEUNT_TSAN

class chan_race_death_test : public test::race_death_test {};

// RD-05: with room for two it is no lock.
TEST_F(chan_race_death_test, rd_05_room_for_two_is_no_lock) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    int v = 0;
    const chan<void> c{2};
    const chan<void> over{2};
    for (const char* const name : {"one", "two"}) {
      go({.name = name}, [&] {
        c.send();
        ++v;
        EXPECT_TRUE(c.recv());
        over.send();
      });
    }
    EXPECT_TRUE(over.recv());
    EXPECT_TRUE(over.recv());
  });
}

// RD-11: two fibers that both won a send.
TEST_F(chan_race_death_test, rd_11_two_winners) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    int v = 0;
    const chan<int> c{2};
    const chan<int> idle;
    const chan<void> over{2};
    for (const char* const name : {"one", "two"}) {
      go({.name = name}, [&] {
        select(on_send(c, 1, [] {}), on_recv(idle, [] {}));
        ++v;
        over.send();
      });
    }
    EXPECT_TRUE(over.recv());
    EXPECT_TRUE(over.recv());
  });
}

// RD-11: a write before a receive that sees the close, the other after the close.
TEST_F(chan_race_death_test, rd_11_after_the_close) {
  EXEUNT_EXPECT_RACE("closes", "receives", [] {
    int v = 0;
    const chan<int> c;
    const chan<int> idle;
    const chan<void> over{2};
    go({.name = "receives"}, [&] {
      v = 1;
      select(on_recv(c, [] {}), on_recv(idle, [] {}));
      over.send();
    });
    go({.name = "closes"}, [&] {
      c.close();
      v = 2;
      over.send();
    });
    EXPECT_TRUE(over.recv());
    EXPECT_TRUE(over.recv());
  });
}

// RD-11: what is done because nothing was ready knows nothing of the others.
TEST_F(chan_race_death_test, rd_11_otherwise) {
  EXEUNT_EXPECT_RACE("reads", "main", [] {
    int v = 0;
    const chan<int> c;
    const chan<void> over{1};
    go({.name = "reads"}, [&] {
      static_cast<void>(*const_cast<volatile int*>(&v));
      over.send();
    });
    select(on_recv(c, [](std::optional<int>) {}), otherwise([&] { v = 1; }));
    EXPECT_TRUE(over.recv());
  });
}

// RD-12: the size orders nothing.
TEST_F(chan_race_death_test, rd_12_size_is_no_signal) {
  EXEUNT_EXPECT_RACE("sends", "main", [] {
    int v = 0;
    const chan<int> c{1};
    go({.name = "sends"}, [&v, c] {
      v = 1;
      c.send(1);
    });
    while (c.size() == 0) yield();
    EXPECT_EQ(v, 1);
  });
}

// RD-13: a send and a close without order, and two closes. That it goes well this time (the second
// close throws) makes no difference.
TEST_F(chan_race_death_test, rd_13_send_and_close) {
  EXEUNT_EXPECT_RACE("sends", "closes", [] {
    const chan<int> c{1};
    const chan<int> over{2};
    go({.name = "sends"}, [=] {
      c.send(1);
      over.send(1);
    });
    go({.name = "closes"}, [=] {
      while (c.size() == 0) yield();
      c.close();
      over.send(1);
    });
    EXPECT_EQ(over.recv(), 1);
    EXPECT_EQ(over.recv(), 1);
  });
}

TEST_F(chan_race_death_test, rd_13_send_by_select_and_close) {
  EXEUNT_EXPECT_RACE("sends", "closes", [] {
    const chan<int> c{1};
    const chan<int> idle;
    const chan<int> over{2};
    go({.name = "sends"}, [=] {
      select(on_send(c, 1, [] {}), on_recv(idle, [] {}));
      over.send(1);
    });
    go({.name = "closes"}, [=] {
      while (c.size() == 0) yield();
      c.close();
      over.send(1);
    });
    EXPECT_EQ(over.recv(), 1);
    EXPECT_EQ(over.recv(), 1);
  });
}

TEST_F(chan_race_death_test, rd_13_two_closes) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    const chan<int> c;
    const chan<int> over{2};
    for (const char* const name : {"one", "two"}) {
      go({.name = name}, [=] {
        try {
          c.close();
        } catch (const closed_channel&) {
          // The other was first.
        }
        over.send(1);
      });
    }
    EXPECT_EQ(over.recv(), 1);
    EXPECT_EQ(over.recv(), 1);
  });
}

// RD-14: the handle itself is a plain variable, whatever is done through it.
TEST_F(chan_race_death_test, rd_14_the_handle) {
  EXEUNT_EXPECT_RACE("uses", "main", [] {
    chan<int> c{1};
    const chan<int> same = c;
    const chan<void> over{1};
    go({.name = "uses"}, [&] {
      EXPECT_TRUE(c.try_send(1));
      over.send();
    });
    while (same.size() == 0) yield();
    c = nullptr;
    EXPECT_TRUE(over.recv());
  });
}

template <typename Use>
void use_while_assigned(Use use) {
  chan<int> c{1};
  const chan<int> over{1};
  std::atomic<bool> used{false};  // Relaxed: orders nothing.
  go({.name = "uses"}, [&] {
    use(c);
    used.store(true, std::memory_order_relaxed);
    over.send(1);
  });
  while (!used.load(std::memory_order_relaxed)) yield();
  c = nullptr;
  EXPECT_EQ(over.recv(), 1);
}

TEST_F(chan_race_death_test, rd_14_the_handle_by_receive) {
  EXEUNT_EXPECT_RACE("uses", "main", [] {
    use_while_assigned([](const chan<int>& c) { EXPECT_FALSE(c.try_recv().has_value()); });
  });
}
TEST_F(chan_race_death_test, rd_14_the_handle_by_close) {
  EXEUNT_EXPECT_RACE("uses", "main",
                     [] { use_while_assigned([](const chan<int>& c) { c.close(); }); });
}
TEST_F(chan_race_death_test, rd_14_the_handle_by_size) {
  EXEUNT_EXPECT_RACE("uses", "main", [] {
    use_while_assigned([](const chan<int>& c) { EXPECT_EQ(c.size(), 0U); });
  });
}
TEST_F(chan_race_death_test, rd_14_the_handle_by_capacity) {
  EXEUNT_EXPECT_RACE("uses", "main", [] {
    use_while_assigned([](const chan<int>& c) { EXPECT_EQ(c.capacity(), 1U); });
  });
}

// A receiver that refills the ring from a parked sender does not come after that sender.
TEST_F(chan_race_death_test, a_parked_sender_comes_before_its_own_receive_only) {
  EXEUNT_EXPECT_RACE("sends", "main", [] {
    int v = 0;
    const chan<int> c{1};
    c.send(1);
    go({.name = "sends"}, [&v, c] {
      v = 1;
      c.send(2);
    });
    until_parked(1, wait_reason::chan_send);
    EXPECT_EQ(c.recv(), 1);
    v = 2;
    EXPECT_EQ(c.recv(), 2);
  });
}

// What has been sent into a buffer does not come after the receive.
TEST_F(chan_race_death_test, a_receive_orders_no_send_before_the_ring_is_full) {
  EXEUNT_EXPECT_RACE("receives", "main", [] {
    int v = 0;
    const chan<int> c{2};
    const chan<int> over{1};
    c.send(1);
    go({.name = "receives"}, [&] {
      v = 1;
      EXPECT_EQ(c.recv(), 1);
      over.send(1);
    });
    while (c.size() != 0) yield();
    c.send(2);
    v = 2;
    EXPECT_EQ(over.recv(), 1);
  });
}

#endif

}  // namespace
}  // namespace exeunt
