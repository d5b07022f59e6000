// SPDX-License-Identifier: Apache-2.0
// select: of 2, 4 and 8 channels of which one is ready, of one that is not, and parked on both
// sides of a hand-over.

#include <array>
#include <cstddef>

#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

using numbers = exeunt::chan<long>;
constexpr auto nothing = [] {};

void one_of_2_ready(long count) {
  const std::array<numbers, 2> c{numbers{1}, numbers{1}};
  for (long i = 0; i < count; ++i) {
    c[i % 2].send(i);
    exeunt::select(exeunt::on_recv(c[0], nothing), exeunt::on_recv(c[1], nothing));
  }
}

void one_of_4_ready(long count) {
  std::array<numbers, 4> c;
  for (numbers& one : c) one = numbers{1};
  for (long i = 0; i < count; ++i) {
    c[i % 4].send(i);
    exeunt::select(exeunt::on_recv(c[0], nothing), exeunt::on_recv(c[1], nothing),
                   exeunt::on_recv(c[2], nothing), exeunt::on_recv(c[3], nothing));
  }
}

void one_of_8_ready(long count) {
  std::array<numbers, 8> c;
  for (numbers& one : c) one = numbers{1};
  for (long i = 0; i < count; ++i) {
    c[i % 8].send(i);
    exeunt::select(exeunt::on_recv(c[0], nothing), exeunt::on_recv(c[1], nothing),
                   exeunt::on_recv(c[2], nothing), exeunt::on_recv(c[3], nothing),
                   exeunt::on_recv(c[4], nothing), exeunt::on_recv(c[5], nothing),
                   exeunt::on_recv(c[6], nothing), exeunt::on_recv(c[7], nothing));
  }
}

void none_ready(long count) {
  const numbers c;
  for (long i = 0; i < count; ++i) {
    exeunt::select(exeunt::on_recv(c, nothing), exeunt::otherwise(nothing));
  }
}

void ping_pong(long count) {
  const numbers there;
  const numbers back;
  const numbers never;
  exeunt::wait_group group;
  group.add();
  exeunt::go([&] {
    for (long i = 0; i < count; ++i) {
      exeunt::select(exeunt::on_recv(there, nothing), exeunt::on_recv(never, nothing));
      exeunt::select(exeunt::on_send(back, i, nothing), exeunt::on_recv(never, nothing));
    }
    group.done();
  });
  for (long i = 0; i < count; ++i) {
    exeunt::select(exeunt::on_send(there, i, nothing), exeunt::on_recv(never, nothing));
    exeunt::select(exeunt::on_recv(back, nothing), exeunt::on_recv(never, nothing));
  }
  group.wait();
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run(
      [&] {
        bench.per_op("select_2_ready", 2'000'000, 1, one_of_2_ready);
        bench.per_op("select_4_ready", 1'000'000, 1, one_of_4_ready);
        bench.per_op("select_8_ready", 1'000'000, 1, one_of_8_ready);
        bench.per_op("select_none_ready", 20'000'000, 1, none_ready);
        bench.per_op("select_ping_pong", 500'000, 1, ping_pong);
      },
      {.procs = bench.workers()});
}
