// SPDX-License-Identifier: Apache-2.0
// One producer and one consumer on a channel with room for 128 elements: of 8 and of 64 bytes,
// strings, and owning pointers. The producer makes each anew, the consumer lets go of it.

#include "elements.hpp"

#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

template <typename Element>
void transfer(long count) {
  exeunt::chan<typename Element::type> elements{128};
  exeunt::wait_group group;
  group.add();
  exeunt::go([&] {
    for (long i = 0; i < count; ++i) elements.send(Element::make(i));
    group.done();
  });
  long sum = 0;
  for (long i = 0; i < count; ++i) sum += Element::number(*elements.recv());
  group.wait();
  rivals::require(sum == count * (count - 1) / 2, "elements");
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run(
      [&] {
        bench.per_op("element_8_bytes", 4'000'000, 1, transfer<bytes_8>);
        bench.per_op("element_64_bytes", 4'000'000, 1, transfer<bytes_64>);
        bench.per_op("element_string", 2'000'000, 1, transfer<text>);
        bench.per_op("element_pointer", 2'000'000, 1, transfer<pointer>);
      },
      {.procs = bench.workers()});
}
