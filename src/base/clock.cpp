// SPDX-License-Identifier: Apache-2.0
// Reads the monotonic clock, or the calling thread's virtual one.

#include <exeunt/base/clock.hpp>

#include <ctime>

#include <exeunt/base/atomic.hpp>

namespace exeunt {

namespace {
detail::atomic<detail::find_clock_fn> find_clock{nullptr};
}  // namespace

clock::time_point clock::now() noexcept {
  // order: acquire, pairs with set_find_clock().
  if (const auto find = find_clock.load(detail::memory_order_acquire)) {
    if (detail::clock_source* const source = find(); source != nullptr) return source->now();
  }
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return time_point{std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec}};
}

clock::duration unix_time() noexcept {
  // A simulation's clock counts from there.
  if (const auto find = find_clock.load(detail::memory_order_acquire)) {  // order: as in now().
    if (detail::clock_source* const source = find(); source != nullptr) {
      return source->now().time_since_epoch();
    }
  }
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec};
}

clock::time_point deadline_after(clock::duration d) noexcept {
  return deadline_after(clock::now(), d);
}

namespace detail {
void set_find_clock(find_clock_fn find) noexcept {
  find_clock.store(find, memory_order_release);  // order: see now().
}
}  // namespace detail

}  // namespace exeunt
