// SPDX-License-Identifier: Apache-2.0
// Channels: values handed from fiber to fiber, a close that ends a loop, and a select that does one
// thing of several.
//
// Try:  build/release/examples/channels

#include <chrono>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include <exeunt/exeunt.hpp>

namespace ex = exeunt;
using namespace std::chrono_literals;

namespace {

int sum_of_squares() {
  // [hand-over]
  ex::chan<int> numbers;      // Unbuffered: a send waits for its receiver.
  ex::chan<int> squares{16};  // Keeps up to 16 that nobody has taken yet.

  ex::go([numbers] {
    ex::close_on_exit closing{numbers};
    for (int i = 1; i <= 10; ++i) numbers.send(i);
  });
  ex::go([numbers, squares] {
    ex::close_on_exit closing{squares};
    for (const int number : numbers) squares.send(number * number);
  });

  int sum = 0;
  for (const int square : squares) sum += square;  // Ends when `squares` is closed and drained.
  // [hand-over]
  return sum;
}

/// Returns: what became of the answer, "late" or "told to stop".
std::string await(const ex::context& ctx, const ex::chan<std::string>& answers) {
  // [select]
  return ex::select(ex::on_recv(answers,
                                [](std::optional<std::string> answer) {
                                  return answer ? std::move(*answer) : std::string{"closed"};
                                }),
                    ex::on_done(ctx, [](const ex::error&) { return std::string{"told to stop"}; }),
                    ex::after(20ms, [] { return std::string{"late"}; }));
  // [select]
}

/// Merges two channels until both are closed. Returns: how many values came.
int merge(ex::chan<int> left, ex::chan<int> right) {
  int count = 0;
  // [nil]
  while (left || right) {
    const auto take = [&count](ex::chan<int>& from) {
      return [&](std::optional<int> value) {
        if (value) {
          ++count;
        } else {
          from = nullptr;  // The nil channel is never ready: this case is off from now on.
        }
      };
    };
    ex::select(ex::on_recv(left, take(left)), ex::on_recv(right, take(right)));
  }
  // [nil]
  return count;
}

ex::result<> tour() {
  const int sum = sum_of_squares();
  std::printf("the sum of the squares is %d\n", sum);

  const ex::chan<std::string> answers{1};
  const std::string without = await(ex::context::background(), answers);
  answers.send("here");
  const std::string with = await(ex::context::background(), answers);
  const auto ended = ex::with_timeout(ex::context::background(), 0s);
  const std::string stopped = await(ended, answers);
  std::printf("without an answer: %s; with one: %s; afterwards: %s\n", without.c_str(),
              with.c_str(), stopped.c_str());

  const ex::chan<int> left{2};
  const ex::chan<int> right{2};
  for (const int i : {1, 2}) left.send(i);
  right.send(3);
  left.close();
  right.close();
  const int merged = merge(left, right);
  std::printf("%d values came\n", merged);

  if (sum != 385 || without != "late" || with != "here" || stopped != "told to stop" ||
      merged != 3) {
    return ex::fail(ex::errc::malformed, "not as expected");
  }
  return {};
}

}  // namespace

int main() { return ex::run(tour); }
