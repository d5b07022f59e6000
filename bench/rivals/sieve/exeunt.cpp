// SPDX-License-Identifier: Apache-2.0
// The sieve of Eratosthenes as a chain of fibers, one for each prime, which pass on what their
// prime does not divide. An operation is one prime. 0 ends the chain.

#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

// Returns how many primes there are up to `limit`.
long sieve(long limit) {
  exeunt::chan<long> numbers;
  exeunt::wait_group group;
  group.add();
  exeunt::go([&group, limit, out = numbers] {
    for (long i = 2; i <= limit; ++i) out.send(i);
    out.send(0L);
    group.done();
  });
  long primes = 0;
  while (const long prime = *numbers.recv()) {
    ++primes;
    exeunt::chan<long> rest;
    group.add();
    exeunt::go([&group, prime, in = numbers, out = rest] {
      for (;;) {
        const long number = *in.recv();
        if (number == 0 || number % prime != 0) out.send(number);
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
  return exeunt::run(
      [&] {
        bench.per_op("sieve_1000", 4'000, 1000, [](long primes) {
          for (; primes > 0; primes -= 1000) rivals::require(sieve(7919) == 1000, "sieve_1000");
        });
        bench.per_op("sieve_2500", 5'000, 2500, [](long primes) {
          for (; primes > 0; primes -= 2500) rivals::require(sieve(22307) == 2500, "sieve_2500");
        });
      },
      {.procs = bench.workers()});
}
