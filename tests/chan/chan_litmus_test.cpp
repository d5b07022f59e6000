// SPDX-License-Identifier: Apache-2.0
// The classic small programs that tell memory models apart, by channels: operations on channels
// appear in one order, which keeps each party's own (docs/semantics.md, L10).
//
// Without the fence in show_all(), store_buffering finds its outcome within some thousand rounds on
// a machine with two cores.

#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/context/context.hpp>

#include "support/litmus.hpp"

namespace exeunt {
namespace {

using test::litmus;

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
template <look Found>
litmus store_buffering() {
  struct both {
    chan<int> x{1U};
    chan<int> y{1U};
    bool first = false;
    bool second = false;
  };
  const auto s = std::make_shared<both>();
  return {{[s] { s->x.send(1), s->first = Found(s->y); },
           [s] { s->y.send(1), s->second = Found(s->x); }},
          [s] {
            EXPECT_TRUE(s->first || s->second);
            drain(s->x);
            drain(s->y);
          }};
}
EXEUNT_LITMUS_TEST(chan_litmus, store_buffering, store_buffering<by_try_recv>, 4)
EXEUNT_LITMUS_TEST(chan_litmus, store_buffering_by_select, store_buffering<by_select>, 4)
EXEUNT_LITMUS_TEST(chan_litmus, store_buffering_by_select_of_two, store_buffering<by_select_of_two>,
                   4)

// Goal:   the same of who makes room and then looks for room.
// Method: both channels are full.
litmus store_buffering_of_room() {
  struct both {
    chan<int> x{1U};
    chan<int> y{1U};
    bool first = false;
    bool second = false;
    both() { fill(); }
    void fill() const {
      static_cast<void>(x.try_send(0));
      static_cast<void>(y.try_send(0));
    }
  };
  const auto s = std::make_shared<both>();
  const auto empty_then_fill = [](const chan<int>& mine, const chan<int>& theirs) {
    static_cast<void>(mine.recv());
    return theirs.try_send(1);
  };
  return {{[=] { s->first = empty_then_fill(s->x, s->y); },
           [=] { s->second = empty_then_fill(s->y, s->x); }},
          [s] {
            EXPECT_TRUE(s->first || s->second);
            s->fill();
          }};
}
EXEUNT_LITMUS_TEST(chan_litmus, store_buffering_of_room, store_buffering_of_room, 4)

// Goal:   who finds the second of two sends finds the first, too, and what was written before.
litmus message_passing() {
  struct both {
    int written = 0;
    chan<int> data{1U};
    chan<int> flag{1U};
  };
  const auto s = std::make_shared<both>();
  return {{[s] {
             s->written = 1;
             s->data.send(1), s->flag.send(1);
           },
           [s] {
             if (!s->flag.try_recv()) return;
             EXPECT_EQ(s->written, 1);
             EXPECT_TRUE(s->data.try_recv());
           }},
          [s] {
            s->written = 0;
            drain(s->data);
            drain(s->flag);
          }};
}
EXEUNT_LITMUS_TEST(chan_litmus, message_passing, message_passing, 4)

// Goal:   who finds by a select that a channel is closed, or that a context has ended, finds what
//         was written before that.
// Method: one select that looks, and one that waits for both.
litmus message_passing_by_an_end() {
  struct state {
    int data = 0;
    int last = 0;
    std::optional<chan<int>> closed;
    std::optional<with_cancel_result> ended;
    state() { reset(); }
    void reset() {
      data = last = 0;
      closed.emplace();
      ended.emplace(with_cancel(context::background()));
    }
  };
  const auto s = std::make_shared<state>();
  const auto on_either = [s](auto... rest) {
    select(on_recv(*s->closed, [&](std::optional<int>) { EXPECT_EQ(s->last, 1); }),
           on_recv(s->ended->ctx.done(), [&](bool) { EXPECT_EQ(s->data, 1); }), rest...);
  };
  return {{[s] {
             s->data = 1;
             s->ended->cancel();
             s->last = 1;
             s->closed->close();
           },
           [=] { on_either(); }, [=] { on_either(otherwise([] {})); }},
          [s] { s->reset(); }};
}
EXEUNT_LITMUS_TEST(chan_litmus, message_passing_by_an_end, message_passing_by_an_end, 3)

// Goal:   the same of a value that a select has sent to a select: there is one order of both.
// Method: no room, so that each waits for the other, or finds it waiting.
litmus message_passing_by_select() {
  struct state {
    int data = 0;
    int back = 0;
    chan<int> to{0U};
    chan<int> never{0U};
  };
  const auto s = std::make_shared<state>();
  return {{[s] {
             s->data = 1;
             select(on_send(s->to, 1, [] {}), on_recv(s->never, [](std::optional<int>) {}));
             EXPECT_EQ(s->back, 1);  // A receive without room comes before the end of its send.
           },
           [s] {
             s->back = 1;
             select(on_recv(s->to, [&](std::optional<int>) { EXPECT_EQ(s->data, 1); }),
                    on_recv(s->never, [](std::optional<int>) {}));
           }},
          [s] { s->data = s->back = 0; }};
}
EXEUNT_LITMUS_TEST(chan_litmus, message_passing_by_select, message_passing_by_select, 4)

// Goal:   nothing comes out of thin air: of two that each look and then send to the other, not both
//         have found something.
litmus load_buffering() {
  struct both {
    chan<int> x{1U};
    chan<int> y{1U};
    bool first = false;
    bool second = false;
  };
  const auto s = std::make_shared<both>();
  return {{[s] { s->first = by_select(s->x), s->y.send(1); },
           [s] { s->second = by_select(s->y), s->x.send(1); }},
          [s] {
            EXPECT_FALSE(s->first && s->second);
            drain(s->x);
            drain(s->y);
          }};
}
EXEUNT_LITMUS_TEST(chan_litmus, load_buffering, load_buffering, 4)

// Goal:   two that look at two independent writes do not see them in opposite orders.
// Method: the writes are closes, which all who look can see, as often as they like.
litmus independent_reads_of_independent_writes() {
  struct seen {
    bool earlier = false;
    bool later = false;
  };
  struct all {
    std::optional<chan<int>> x{1U};
    std::optional<chan<int>> y{1U};
    seen third;
    seen fourth;
  };
  const auto s = std::make_shared<all>();
  return {
      {[s] { s->x->close(); }, [s] { s->y->close(); },
       [s] {
         s->third.earlier = by_select(*s->x);
         s->third.later = by_select(*s->y);
       },
       [s] {
         s->fourth.earlier = by_select(*s->y);
         s->fourth.later = by_select(*s->x);
       }},
      [s] {
        EXPECT_FALSE(s->third.earlier && !s->third.later && s->fourth.earlier && !s->fourth.later);
        s->x.emplace(1U);
        s->y.emplace(1U);
      }};
}
EXEUNT_LITMUS_TEST(chan_litmus, independent_reads_of_independent_writes,
                   independent_reads_of_independent_writes, 2)

}  // namespace
}  // namespace exeunt
