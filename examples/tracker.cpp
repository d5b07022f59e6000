// SPDX-License-Identifier: Apache-2.0
// Work that goes on after the request for it was answered, and is not lost at the stop: a
// channel, a fiber that works on what comes, and a shutdown with a deadline that says what was
// done.
//
// Try:  build/release/examples/tracker

#include <chrono>
#include <cstdio>
#include <string>
#include <utility>

#include <exeunt/exeunt.hpp>

namespace ex = exeunt;
using namespace std::chrono_literals;

namespace {

class tracker {
 public:
  explicit tracker(std::size_t capacity)
      : events_{capacity}, worker_{ex::spawn([this](ex::context ctx) { work(ctx); })} {}

  /// Waits while the buffer is full, but no longer than `ctx`.
  ex::result<> track(const ex::context& ctx, std::string event) {
    auto sent = events_.send(ctx, std::move(event));
    if (sent) ++accepted_;
    return sent;
  }

  // [shutdown]
  /// Takes no more; waits for the rest, but no longer than `ctx`. Returns: how many were dropped.
  int shutdown(const ex::context& ctx) {
    events_.close();
    const bool finished = worker_.join(ctx).has_value();
    if (!finished) {
      worker_.cancel();
      static_cast<void>(worker_.join());
    }
    std::printf("processed %d, dropped %d\n", processed_, accepted_ - processed_);
    return accepted_ - processed_;
  }
  // [shutdown]

 private:
  // [work]
  void work(const ex::context& ctx) {
    while (const ex::result<std::string> event = events_.recv(ctx)) {
      // "stuck" stands for work that takes longer than anybody waits.
      if (*event == "stuck" && !ex::sleep(ctx, 24h)) continue;
      ++processed_;
    }
  }
  // [work]

  ex::chan<std::string> events_;
  int accepted_ = 0;   // The sender's.
  int processed_ = 0;  // The worker's, until it was joined.
  ex::fiber<void> worker_;
};

ex::result<> track_some() {
  const ex::context ctx = ex::context::background();

  tracker quick{10};
  for (const char* const event : {"one", "two", "three"}) {
    if (auto taken = quick.track(ctx, event); !taken) return taken;
  }
  if (quick.shutdown(ex::with_timeout(ctx, 10s)) != 0) {
    return ex::fail(ex::errc::malformed, "events were lost");
  }

  tracker slow{10};
  for (const char* const event : {"one", "stuck", "three"}) {
    if (auto taken = slow.track(ctx, event); !taken) return taken;
  }
  if (slow.shutdown(ex::with_timeout(ctx, 50ms)) < 2) {
    return ex::fail(ex::errc::malformed, "the deadline did not count");
  }
  return {};
}

}  // namespace

int main() { return ex::run(track_some); }
