// SPDX-License-Identifier: Apache-2.0
// Passing values on, for tests of rooms that channels do not rest on.

#pragma once

#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include <exeunt/sync/condition_variable.hpp>
#include <exeunt/sync/mutex.hpp>

namespace exeunt::test {

template <typename T>
class hand_over {
 public:
  void give(T value) {
    const std::lock_guard guard{lock_};
    values_.push_back(std::move(value));
    changed_.notify_one();
  }
  T take() {
    std::unique_lock guard{lock_};
    changed_.wait(guard, [this] { return !values_.empty(); });
    return pop();
  }
  std::optional<T> try_take() {
    const std::lock_guard guard{lock_};
    if (values_.empty()) return std::nullopt;
    return pop();
  }

 private:
  T pop() {
    T first = std::move(values_.front());
    values_.pop_front();
    return first;
  }

  mutex lock_;
  condition_variable changed_;
  std::deque<T> values_;
};

}  // namespace exeunt::test
