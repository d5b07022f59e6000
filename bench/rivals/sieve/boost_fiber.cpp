// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, with Boost.Fiber.

#include <memory>

#include "boost_fiber.hpp"

namespace {

using namespace rivals::boost_fiber;

long sieve(long limit) {
  auto numbers = std::make_shared<chan<long>>();
  wait_group group;
  group.add(1);
  go([&group, limit, out = numbers] {
    for (long i = 2; i <= limit; ++i) out->send(i);
    out->send(0);
    group.done();
  });
  long primes = 0;
  while (const long prime = numbers->recv()) {
    ++primes;
    auto rest = std::make_shared<chan<long>>();
    group.add(1);
    go([&group, prime, in = numbers, out = rest] {
      for (;;) {
        const long number = in->recv();
        if (number == 0 || number % prime != 0) out->send(number);
        if (number == 0) break;
      }
      group.done();
    });
    numbers = rest;
  }
  group.wait();
  return primes;
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return run(bench.workers(), [&] {
    bench.per_op("sieve_1000", 4'000, 1000, [](long primes) {
      for (; primes > 0; primes -= 1000) rivals::require(sieve(7919) == 1000, "sieve_1000");
    });
    bench.per_op("sieve_2500", 5'000, 2500, [](long primes) {
      for (; primes > 0; primes -= 2500) rivals::require(sieve(22307) == 2500, "sieve_2500");
    });
  });
}
