// SPDX-License-Identifier: Apache-2.0
// What is left of Go's cases for once: a function whose thread ends within it.

#include <exeunt/sync/once.hpp>

#include <pthread.h>

#include <gtest/gtest.h>

#include <exeunt/base/error.hpp>

namespace exeunt {
namespace {

// SY-21: the function has run, and is not run again. It has no exception that could be thrown to
// those who come later, so they are told what happened.
TEST(once_on_threads, sy_21_a_caller_that_vanishes_has_called) {
  struct vanishes {
    once first;
    int calls = 0;
    static void* run(void* self) {
      auto& my = *static_cast<vanishes*>(self);
      my.first.call([&my] {
        ++my.calls;
        pthread_exit(nullptr);
      });
      return nullptr;
    }
  } it;
  pthread_t thread{};
  ASSERT_EQ(pthread_create(&thread, nullptr, &vanishes::run, &it), 0);
  pthread_join(thread, nullptr);
  EXPECT_TRUE(it.first.done());
  EXPECT_THROW(it.first.call([&] { ++it.calls; }), panic_error);
  EXPECT_THROW(it.first.call([&] { ++it.calls; }), panic_error);
  EXPECT_EQ(it.calls, 1);
}

}  // namespace
}  // namespace exeunt
