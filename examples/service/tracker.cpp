// SPDX-License-Identifier: Apache-2.0

#include "tracker.hpp"

#include <utility>

#include <exeunt/base/log.hpp>
#include <exeunt/time/sleep.hpp>

namespace service {

namespace ex = exeunt;

tracker::tracker(std::size_t capacity)
    : events_{capacity},
      worker_{ex::spawn({.name = "tracker worker"}, [this](ex::context ctx) { work(ctx); })} {}

void tracker::work(const ex::context& ctx) {
  while (const ex::result<event> next = events_.recv(ctx)) {
    // The place for real work. Whatever it waits for, it waits with the context.
    if (ex::sleep(ctx, next->takes)) ++processed_;
  }
}

ex::result<> tracker::track(const ex::context& ctx, event what) {
  ++accepted_;  // Before the worker can see it: never are more processed than accepted.
  ex::result<> sent;
  try {
    if (!events_.try_send(std::move(what))) sent = events_.send(ctx, std::move(what));
  } catch (const ex::closed_channel&) {
    sent = ex::fail(ex::errc::closed, "tracker");  // A request that was cut came late.
  }
  if (!sent) --accepted_;
  return sent;
}

ex::result<> tracker::shutdown(const ex::context& ctx) {
  events_.close();
  if (auto finished = worker_.join(ctx); !finished && ctx.err()) worker_.cancel();
  const std::uint64_t processed = processed_;
  const std::uint64_t dropped = accepted_ - processed;
  ex::log_line("tracker: processed " + std::to_string(processed) + ", dropped " +
               std::to_string(dropped));
  if (dropped == 0) return {};
  return ex::fail(ex::errc::deadline_exceeded,
                  "tracker: " + std::to_string(dropped) + " events dropped");
}

}  // namespace service
