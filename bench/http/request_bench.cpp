// SPDX-License-Identifier: Apache-2.0
// Question:  what does a request cost in time and in allocations, with the pool of exchanges and
//            without it?
// Unit:      one request and its response, over one connection that stays open on the loopback,
//            client and server on one worker. `allocations` and `bytes` are what operator new is
//            asked for meanwhile, by both; the client asks for nothing.
// Compare:   `pooled:1` with `pooled:0`, which makes what an active connection needs for each
//            request anew. Between two requests a connection is idle, and holds none of it.
// Not said:  nothing about many connections: see bench/rivals/http.

#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string_view>

#include <exeunt/context/context.hpp>
#include <exeunt/http/server.hpp>
#include <exeunt/net/conn.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "on_fiber.hpp"

namespace {

// One worker: whoever counts runs alone.
std::size_t allocations = 0;
std::size_t bytes = 0;

}  // namespace

// NOLINTBEGIN: counting is the purpose. Not inlined, or GCC finds new and free() mismatched.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  bytes += size;
  if (void* const memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc{};
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
// NOLINTEND

namespace {

using namespace exeunt;

constexpr std::string_view get_request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

void ask(net::conn& to) {
  if (!to.write(get_request)) std::abort();
  std::array<char, 4096> reply;
  if (const auto count = to.read(reply); !count || *count == 0) std::abort();
}

void request(benchmark::State& state, http::handler handler) {
  runtime fibers{{.procs = 1}};
  fibers.run([&] {
    const pool_limits kept = state.range(0) != 0 ? pool_limits{} : pool_limits{0, 0};
    http::server server{{.address = "127.0.0.1:0",
                         .handler = std::move(handler),
                         .spare = kept,
                         .log = [](std::string_view) {}}};
    const auto stop = with_cancel(context::background());
    if (!server.listen()) std::abort();
    wait_group serving;
    serving.go([&] { static_cast<void>(server.serve(stop.ctx)); });
    auto client = net::dial(context::background(), server.address());
    if (!client) std::abort();
    ask(*client);
    const std::size_t allocations_before = allocations;
    const std::size_t bytes_before = bytes;
    for (auto _ : state) ask(*client);
    const auto per_request = [&](std::size_t count) {
      return static_cast<double>(count) / static_cast<double>(state.iterations());
    };
    state.counters["allocations"] = per_request(allocations - allocations_before);
    state.counters["bytes"] = per_request(bytes - bytes_before);
    client->close();
    stop.cancel();
    serving.wait();
  });
}

void hello(benchmark::State& state) {
  request(state, [](http::request&, http::response& to) { to.text("hello"); });
}
void hello_with_context(benchmark::State& state) {
  request(state, [](http::request& from, http::response& to) {
    if (!from.context().err()) to.text("hello");
  });
}

BENCHMARK(hello)->ArgName("pooled")->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(hello_with_context)->ArgName("pooled")->Arg(1)->Arg(0)->UseRealTime();

}  // namespace
