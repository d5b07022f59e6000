// SPDX-License-Identifier: Apache-2.0
// Pipelines: stages that channels connect, which end when they are done, when one fails, or when
// they are told to. No stage is left behind.
//
// Try:  build/release/examples/pipelines

#include <cstddef>
#include <cstdio>
#include <optional>
#include <ranges>
#include <string>
#include <utility>
#include <vector>

#include <exeunt/exeunt.hpp>

namespace ex = exeunt;

namespace {

// [generator]
/// Sends 1, 2, … `last`, and closes. Every send takes the context, so nobody has to take them all.
ex::result<> count_to(const ex::context& ctx, int last, const ex::send_only<int>& out) {
  const ex::close_on_exit closing{out};  // However this ends: receivers do not wait for good.
  for (int i = 1; i <= last; ++i) {
    if (ex::result<> sent = out.send(ctx, i); !sent) return sent;
  }
  return {};
}
// [generator]

// [stage]
/// Receives until the channel is closed, and sends the squares.
ex::result<> square(const ex::context& ctx, const ex::recv_only<int>& in,
                    const ex::send_only<int>& out) {
  for (const int number : in.values(ctx)) {
    if (ex::result<> sent = out.send(ctx, number * number); !sent) return sent;
  }
  // The loop ends with the channel, or with the context.
  if (std::optional<ex::error> why = ctx.err()) return ex::fail(*why);
  return {};
}
// [stage]

/// One stage after the other.
ex::result<int> sum_of_squares(const ex::context& ctx, int last) {
  // [connect]
  ex::errgroup stages{ctx};
  const ex::chan<int> numbers;
  const ex::chan<int> squares{16};
  stages.go([=](const ex::context& own) { return count_to(own, last, numbers); });
  stages.go([=](const ex::context& own) {
    const ex::close_on_exit closing{squares};
    return square(own, numbers, squares);
  });

  int sum = 0;
  for (const int each : squares) sum += each;
  if (ex::result<> ended = stages.wait(); !ended) return ex::fail(ended.error());
  return sum;
  // [connect]
}

/// Several fibers take from one channel, and send to one.
ex::result<int> fan_out_and_in(const ex::context& ctx, int last, int width) {
  ex::errgroup stages{ctx};
  const ex::chan<int> numbers;
  const ex::chan<int> squares{16};
  stages.go([=](const ex::context& own) { return count_to(own, last, numbers); });
  // [fan]
  // Fan-out: whoever is free takes the next one. Fan-in: all send to the same channel, which is
  // closed by the one who knows that none of them will send any more.
  stages.go([=](const ex::context& own) -> ex::result<> {
    const ex::close_on_exit closing{squares};
    ex::errgroup workers{own};
    for (int i = 0; i < width; ++i) {
      workers.go([=](const ex::context& each) { return square(each, numbers, squares); });
    }
    return workers.wait();
  });
  // [fan]

  int sum = 0;
  for (const int each : squares) sum += each;
  if (ex::result<> ended = stages.wait(); !ended) return ex::fail(ended.error());
  return sum;
}

std::string fetch(const std::string& name) { return name + "!"; }

/// So many at a time, and the results in the order of the input.
ex::result<std::vector<std::string>> fetch_all(const ex::context& ctx,
                                               const std::vector<std::string>& names) {
  // [bounded]
  std::vector<std::string> pages(names.size());
  const auto each = [&](const ex::context&, std::size_t i) { pages[i] = fetch(names[i]); };
  ex::result<> done = ex::parallel_for_each(ctx, std::views::iota(std::size_t{0}, names.size()),
                                            /*limit=*/4, each);
  if (!done) return ex::fail(done.error());
  return pages;
  // [bounded]
}

/// The same for what comes through a channel; the first failure ends all, the generator too.
ex::result<> check_all(const ex::context& ctx, int last) {
  // [bounded-channel]
  ex::errgroup stages{ctx};
  const ex::chan<int> numbers;
  stages.go([=](const ex::context& own) { return count_to(own, last, numbers); });
  stages.go([=](const ex::context& own) {
    return ex::parallel_for_each(own, numbers, /*limit=*/4,
                                 [](const ex::context&, int number) -> ex::result<> {
                                   if (number == 13) return ex::fail(ex::errc::malformed, "13");
                                   return {};
                                 });
  });
  return stages.wait();
  // [bounded-channel]
}

/// Takes what it needs and leaves.
ex::result<int> first_above(const ex::context& ctx, int bound) {
  // [leave]
  const ex::chan<int> numbers;
  // The fiber's own context ends when `counting` goes out of scope, which then joins it: its send
  // gives up, and it is not left behind.
  const auto counting = ex::spawn(
      ctx, [=](const ex::context& own) { static_cast<void>(count_to(own, 1'000'000, numbers)); });
  for (const int number : numbers.values(ctx)) {
    if (number > bound) return number;
  }
  return ex::fail(ex::errc::closed, "no number is that large");
  // [leave]
}

ex::result<std::string> from_replica(const ex::context& ctx, const std::string& name) {
  if (name == "a") return ex::fail(ex::errc::closed, "a is down");
  if (std::optional<ex::error> why = ctx.err()) return ex::fail(*why);
  return "from " + name;
}

/// The first answer counts.
ex::result<std::string> ask_replicas(const ex::context& ctx) {
  // [first]
  return ex::first_of(
      ctx, [](const ex::context& own) { return from_replica(own, "a"); },
      [](const ex::context& own) { return from_replica(own, "b"); });
  // [first]
}

ex::result<> tour() {
  const ex::context ctx = ex::context::background();
  const ex::result<int> sum = sum_of_squares(ctx, 10);
  const ex::result<int> fanned = fan_out_and_in(ctx, 10, 3);
  const auto pages = fetch_all(ctx, {"a", "b", "c", "d", "e", "f"});
  const ex::result<> checked = check_all(ctx, 1000);
  const ex::result<int> above = first_above(ctx, 40);
  const ex::result<std::string> answer = ask_replicas(ctx);
  const auto ended = ex::with_timeout(ctx, std::chrono::seconds{0});
  const ex::result<int> stopped = sum_of_squares(ended, 10);

  if (sum != 385 || fanned != 385 || !pages || pages->back() != "f!" || checked ||
      checked.error().message() != "13" || above != 41 || answer != "from b" || stopped ||
      !stopped.error().is(ex::errc::deadline_exceeded)) {
    return ex::fail(ex::errc::malformed, "not as expected");
  }
  std::printf("the sum is %d, %d; %zu pages; %s; %d; %s; %s\n", *sum, *fanned, pages->size(),
              checked.error().message().c_str(), *above, answer->c_str(),
              stopped.error().message().c_str());
  return {};
}

}  // namespace

int main() { return ex::run(tour); }
