// SPDX-License-Identifier: Apache-2.0
// The end of a context as a message: what was written before a cancel is found by whoever sees the
// end, however he looks; by a select: chan_litmus_test.cpp. The data is plain.

#include <exeunt/context/after_func.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>

#include <memory>
#include <optional>

#include <gtest/gtest.h>

#include "support/litmus.hpp"

namespace exeunt {
namespace {

using test::litmus;

// A parent, whom somebody ends, and two contexts below, by which others see it.
struct family {
  int data = 0;
  std::optional<with_cancel_result> parent;
  std::optional<with_cancel_result> child;
  std::optional<with_cancel_result> grandchild;
  family() { reset(); }
  void reset() {
    data = 0;
    grandchild.reset();
    child.reset();
    parent.emplace(with_cancel(context::background()));
    child.emplace(with_cancel(*parent));
    grandchild.emplace(with_cancel(*child));
  }
};

template <typename Look>
litmus message_passing(Look look) {
  const auto s = std::make_shared<family>();
  return {{[s] { s->data = 1, s->parent->cancel(); }, [s, look] { look(s->child->ctx, s->data); },
           [s, look] { look(s->grandchild->ctx, s->data); }},
          [s] { s->reset(); }};
}

litmus message_passing_by_err() {
  return message_passing([](const context& ctx, const int& data) {
    if (ctx.err()) {
      EXPECT_EQ(data, 1);
    }
  });
}
EXEUNT_LITMUS_TEST(context_litmus, message_passing_by_err, message_passing_by_err, 3)

litmus message_passing_by_wait() {
  return message_passing([](const context& ctx, const int& data) {
    ctx.wait();
    EXPECT_EQ(data, 1);
    EXPECT_EQ(*cause(ctx), error{errc::canceled});
  });
}
EXEUNT_LITMUS_TEST(context_litmus, message_passing_by_wait, message_passing_by_wait, 3)

// Goal:   an after_func's function finds what was written before it was registered, be that before
//         the end or after it.
// Method: somebody else ends the context meanwhile.
void after_func_starts() {
  test::start_only([](auto f) {
    const auto ended = std::make_shared<with_cancel_result>(with_cancel(context::background()));
    go([ended] { ended->cancel(); });
    return after_func(ended->ctx, f);
  });
}
EXEUNT_START_LITMUS_TEST(context_litmus, after_func_starts, after_func_starts)

// Goal: the same of what was written before the cancel.
litmus message_passing_by_after_func() {
  struct state {
    int data = 0;
    std::optional<with_cancel_result> ended;
    state() { reset(); }
    void reset() {
      data = 0;
      ended.emplace(with_cancel(context::background()));
    }
  };
  const auto s = std::make_shared<state>();
  return {{[s] { s->data = 1, s->ended->cancel(); },
           [s] {
             const auto called = with_cancel(context::background());
             const auto registered = after_func(s->ended->ctx, [s, &called] {
               EXPECT_EQ(s->data, 1);
               called.cancel();
             });
             called.ctx.wait();
           }},
          [s] { s->reset(); }};
}
EXEUNT_LITMUS_TEST(context_litmus, message_passing_by_after_func, message_passing_by_after_func, 4)

// Goal:   of two that end one context, one is the cause, and all who look agree which.
// Method: each ends it with a cause of its own, and looks.
litmus one_cause() {
  struct state {
    std::optional<with_cancel_cause_result> ended;
    error seen[2] = {errc::panic, errc::panic};
    state() { reset(); }
    void reset() { ended.emplace(with_cancel_cause(context::background())); }
  };
  const auto s = std::make_shared<state>();
  return {{[s] {
             s->ended->cancel(error{errc::closed});
             s->seen[0] = *cause(s->ended->ctx);
           },
           [s] {
             s->ended->cancel(error{errc::malformed});
             s->seen[1] = *cause(s->ended->ctx);
           }},
          [s] {
            EXPECT_EQ(s->seen[0], s->seen[1]);
            EXPECT_FALSE(s->seen[0].is(errc::panic));
            s->reset();
          }};
}
EXEUNT_LITMUS_TEST(context_litmus, one_cause, one_cause, 3)

}  // namespace
}  // namespace exeunt
