// SPDX-License-Identifier: Apache-2.0
// A TCP echo server, one fiber for each connection. It prints its port and serves until killed.

#include <cstdio>
#include <utility>

#include <exeunt/net/conn.hpp>
#include <exeunt/net/listener.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>

#include "echo/socket.hpp"
#include "harness.hpp"

namespace {

void serve_one(exeunt::net::conn peer) {
  char bytes[4096];
  while (true) {
    const auto count = peer.read(bytes);
    if (!count || *count == 0) return;
    if (bytes[0] == rivals::asks_to_block) rivals::block_thread();
    if (!peer.write(exeunt::net::const_buffer{bytes, *count})) return;
  }
}

exeunt::result<> serve() {
  auto door = exeunt::net::listen("127.0.0.1:0");
  if (!door) return exeunt::fail(door.error());
  std::printf("%u\n", unsigned{door->local_address().port()});
  std::fflush(stdout);
  while (true) {
    auto peer = door->accept();
    if (!peer) return exeunt::fail(peer.error());
    exeunt::go([peer = std::move(*peer)]() mutable { serve_one(std::move(peer)); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  const rivals::harness bench{argc, argv};
  return exeunt::run([] { return serve(); }, {.procs = bench.workers()});
}
