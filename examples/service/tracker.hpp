// SPDX-License-Identifier: Apache-2.0
// Takes events from requests and works on them one by one, after the requests were answered.

#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include <exeunt/chan/chan.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/group/spawn.hpp>

namespace service {

struct event {
  std::string payload;
  std::chrono::milliseconds takes{};  ///< How long the work on it lasts.
};

/// A buffered channel and a fiber that works on what comes. Every event that track() took is
/// either processed or, by shutdown(), counted as dropped.
class tracker {
 public:
  explicit tracker(std::size_t capacity);

  /// Takes an event; waits while the buffer is full.
  ///
  /// Returns: why `ctx` ended, if it did before there was room; errc::closed after shutdown().
  exeunt::result<> track(const exeunt::context& ctx, event what);

  /// Takes no more, and waits until all is processed; at the end of `ctx` it gives up, and what is
  /// not processed by then is dropped. Logs both counts. Once, and when nobody tracks any more.
  ///
  /// Returns: errc::deadline_exceeded if events were dropped.
  exeunt::result<> shutdown(const exeunt::context& ctx);

 private:
  void work(const exeunt::context& ctx);

  exeunt::chan<event> events_;
  std::atomic<std::uint64_t> accepted_{0};
  std::atomic<std::uint64_t> processed_{0};
  exeunt::fiber<void> worker_;  // The last: its destructor ends the fiber, which uses the others.
};

}  // namespace service
