// SPDX-License-Identifier: Apache-2.0
//
// A fiber without a scheduler, for the tests of arch: the test says by hand when it runs and on
// which thread. Does around each switch what the scheduler does.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <utility>

#include <exeunt/base/race.hpp>

#include "arch/eh_state.hpp"
#include "arch/sanitizer.hpp"
#include "arch/stack.hpp"
#include "arch/switch.hpp"

namespace exeunt::arch {

class hand_fiber {
 public:
  using body_function = std::function<void(hand_fiber&)>;

  hand_fiber(stack_pool& pool, body_function body, std::size_t bytes = 0)
      : pool_(pool), stack_(pool.get(bytes)), body_(std::move(body)) {
    context_ = make_frame(stack_.top(), enter, this);
    san_bind(san_, stack_.base, stack_.size);
    san_create(san_, "hand fiber");
  }
  ~hand_fiber() {
    EXPECT_TRUE(done_) << "a fiber was left behind in the middle of its work";
    san_destroy(san_);
    pool_.put(stack_);
  }
  hand_fiber(const hand_fiber&) = delete;
  hand_fiber& operator=(const hand_fiber&) = delete;

  /// Runs the fiber on this thread until it parks or ends. Unless `ordered`, this is no edge
  /// between what the thread did and what the fiber does, in the eyes of ThreadSanitizer.
  EXEUNT_NO_TSAN EXEUNT_NO_ASAN void resume(bool ordered = true) {
    san_context host;
    eh_state host_eh;
    san_adopt_thread(host);
    host_ = &host;
    if (ordered) detail::race_release(this);
    eh_save(eh_globals(), host_eh);
    eh_load(eh_globals(), eh_);
    san_before_switch(host, san_, false);
    switch_to(host_context_, context_, this);
    san_after_switch(host);
    eh_save(eh_globals(), eh_);
    eh_load(eh_globals(), host_eh);
    if (ordered) detail::race_acquire(this);
  }
  /// The same on a thread of its own.
  void resume_elsewhere() {
    std::thread other([this] { resume(); });
    other.join();
  }

  /// Called on the fiber: goes back to whoever called resume().
  EXEUNT_NO_TSAN void park() { leave(false); }

  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] const switch_context& context() const { return context_; }
  [[nodiscard]] const stack& its_stack() const { return stack_; }

 private:
  static void enter(void* arg, void* message) {
    auto& self = *static_cast<hand_fiber*>(arg);
    san_after_switch(self.san_);
    detail::race_acquire(&self);
    EXPECT_EQ(message, arg);
    self.body_(self);
    self.done_ = true;
    self.leave(true);
  }
  EXEUNT_NO_TSAN EXEUNT_NO_ASAN void leave(bool dies) {
    detail::race_release(this);
    san_before_switch(san_, *host_, dies);
    switch_to(context_, host_context_, nullptr);
    san_after_switch(san_);
    detail::race_acquire(this);
  }

  stack_pool& pool_;
  stack stack_;
  body_function body_;
  switch_context context_;
  switch_context host_context_;
  san_context* host_ = nullptr;
  san_context san_;
  eh_state eh_;
  bool done_ = false;
};

}  // namespace exeunt::arch
