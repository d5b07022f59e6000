// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, with Boost.Fiber.

#include "boost_fiber.hpp"
#include "elements.hpp"

namespace {

using namespace rivals::boost_fiber;

template <typename Element>
void transfer(long count) {
  chan<typename Element::type> elements{128};
  wait_group group;
  group.add(1);
  go([&] {
    for (long i = 0; i < count; ++i) elements.send(Element::make(i));
    group.done();
  });
  long sum = 0;
  for (long i = 0; i < count; ++i) sum += Element::number(elements.recv());
  group.wait();
  rivals::require(sum == count * (count - 1) / 2, "elements");
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return run(bench.workers(), [&] {
    bench.per_op("element_8_bytes", 4'000'000, 1, transfer<bytes_8>);
    bench.per_op("element_64_bytes", 4'000'000, 1, transfer<bytes_64>);
    bench.per_op("element_string", 2'000'000, 1, transfer<text>);
    bench.per_op("element_pointer", 2'000'000, 1, transfer<pointer>);
  });
}
