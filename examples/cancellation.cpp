// SPDX-License-Identifier: Apache-2.0
// Contexts: who starts something says how long it may take, and everything below ends with it.
//
// Try:  build/release/examples/cancellation

#include <chrono>
#include <cstdio>
#include <string>

#include <exeunt/exeunt.hpp>

namespace ex = exeunt;
using namespace std::chrono_literals;

namespace {

struct request_id {
  using type = std::string;
};

// [pass-it-on]
/// Takes the context first, and hands it to whatever it waits for.
ex::result<std::string> look_up(const ex::context& ctx, ex::clock::duration takes) {
  if (auto slept = ex::sleep(ctx, takes); !slept) {
    const auto* const id = ctx.value<request_id>();
    return ex::fail(slept.error().wrap("look up for " + (id ? *id : std::string{"nobody"})));
  }
  return "found";
}
// [pass-it-on]

ex::result<> tour() {
  const ex::context ctx = ex::with_value<request_id>(ex::context::background(), "request 7");

  // [timeout]
  auto quick = look_up(ex::with_timeout(ctx, 10s), 1ms);  // The context ends with this call.
  auto slow = look_up(ex::with_timeout(ctx, 20ms), 24h);
  if (!slow && slow.error().is(ex::errc::deadline_exceeded)) {
    std::printf("%s\n", slow.error().message().c_str());
  }
  // [timeout]
  const bool timed_out = !slow && slow.error().is(ex::errc::deadline_exceeded);

  // [cause]
  auto [work, cancel] = ex::with_cancel_cause(ctx);
  ex::fiber<std::string> worker = ex::spawn(work, [](ex::context own) {
    return look_up(own, 24h);  // `own` is below `work`, and ends with the fiber.
  });
  cancel(ex::error{ex::errc::shutting_down, "the operator pulled the plug"});

  const ex::result<std::string> ended = worker.join();
  std::printf("%s, because %s\n", ended.error().message().c_str(),
              ex::cause(work)->message().c_str());
  // [cause]

  // [blocking]
  // The call goes on by itself if its caller leaves, so it must own what it uses.
  auto size = ex::blocking(ex::with_timeout(ctx, 10s), [path = std::string{"/proc/self/stat"}] {
    std::FILE* const file = std::fopen(path.c_str(), "r");
    if (file == nullptr) return std::size_t{0};
    char some[4096];
    const std::size_t count = std::fread(some, 1, sizeof some, file);
    std::fclose(file);
    return count;
  });
  // [blocking]

  if (!quick || !timed_out || ended || !ended.error().is(ex::errc::canceled) || !size ||
      *size == 0) {
    return ex::fail(ex::errc::malformed, "not as expected");
  }
  return {};
}

}  // namespace

int main() { return ex::run(tour); }
