// SPDX-License-Identifier: Apache-2.0
// Message passing to a fiber that is started, and back to who waits for its end. That is all that
// starts and ends promise, so of the other small programs there is none.

#include <exeunt/group/errgroup.hpp>
#include <exeunt/group/spawn.hpp>

#include <memory>

#include <gtest/gtest.h>

#include "support/litmus.hpp"

namespace exeunt {
namespace {

void spawn_and_join() {
  test::start_and_end([](auto f) {
    const auto one = std::make_shared<fiber<void>>(spawn(f));
    return [one] { EXPECT_TRUE(one->join()); };
  });
}
EXEUNT_START_LITMUS_TEST(group_litmus, spawn_and_join, spawn_and_join)

void errgroup_go_and_wait() {
  test::start_and_end([](auto f) {
    const auto tasks = std::make_shared<errgroup>();
    tasks->go([f](const context&) { f(); });
    return [tasks] { EXPECT_TRUE(tasks->wait()); };
  });
}
EXEUNT_START_LITMUS_TEST(group_litmus, errgroup_go_and_wait, errgroup_go_and_wait)

}  // namespace
}  // namespace exeunt
