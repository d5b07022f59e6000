// SPDX-License-Identifier: Apache-2.0
// Memory: what a server does when there is none, and how much of it a router keeps.
//
// This executable counts what is allocated, and refuses one size, by replacing operator new.
#include <exeunt/http/router.hpp>

#include <gtest/gtest.h>

#include <malloc.h>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include <exeunt/http/server.hpp>
#include <exeunt/sched/runtime.hpp>

#include "support/http_client.hpp"
#include "support/on_workers.hpp"
#include "support/until_parked.hpp"

// The sanitizers have operators of their own.
#if !defined(EXEUNT_TSAN) && !defined(EXEUNT_ASAN)

namespace {
std::atomic<std::size_t> refused_size = 0;
std::atomic<std::ptrdiff_t> bytes_in_use = 0;

void* get(void* memory) {
  if (memory == nullptr) throw std::bad_alloc{};
  bytes_in_use += static_cast<std::ptrdiff_t>(::malloc_usable_size(memory));
  return memory;
}
void give_back(void* memory) noexcept {
  bytes_in_use -= static_cast<std::ptrdiff_t>(::malloc_usable_size(memory));
  std::free(memory);
}
}  // namespace

[[gnu::noinline]] void* operator new(std::size_t size) {
  if (size != 0 && size == refused_size) throw std::bad_alloc{};
  return get(std::malloc(size == 0 ? 1 : size));
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto to = static_cast<std::size_t>(alignment);
  return get(std::aligned_alloc(to, (size + to - 1) / to * to));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { give_back(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { give_back(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  give_back(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  give_back(memory);
}

namespace exeunt::http {
namespace {

using test::running_server;

class allocation_test : public test::on_workers {};
EXEUNT_ON_WORKERS(allocation_test);

// Goal:   a connection that there is no memory for ends, and the server goes on.
// Method: the buffer of an exchange, whose size an odd header limit makes known, is refused.
TEST_P(allocation_test, that_fails_ends_the_connection_and_nothing_else) {
  run([] {
    constexpr std::uint32_t header_limit = 12'345;
    running_server server{{.handler = [](request&, response& res) { res.text("hello"); },
                           .header_limit = header_limit}};
    refused_size = std::size_t{header_limit} + 4096;
    auto client = server.client();
    const auto before = runtime::current().stats().panics;
    EXPECT_EQ(client.get("/").status, 0);
    EXPECT_EQ(runtime::current().stats().panics - before, 1U);
    refused_size = 0;
    auto other = server.client();
    EXPECT_EQ(other.get("/").body, "hello");
    client.close();
    other.close();
  });
}

// Goal:   what an active connection needs is not kept for ever.
// Method: the buffer of an exchange is as large as a head may be, a megabyte; idle, nobody has it.
TEST_P(allocation_test, is_undone_when_a_server_idles) {
  run([] {
    constexpr std::uint32_t header_limit = 1024 * 1024;
    running_server server{{.handler = [](request&, response& res) { res.text("hello"); },
                           .header_limit = header_limit,
                           .spare = {.tick = std::chrono::milliseconds{1}}}};
    auto client = server.client();
    const std::ptrdiff_t before = bytes_in_use;
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(client.get("/").body, "hello");
      while (bytes_in_use - before >= std::ptrdiff_t{header_limit}) yield();
    }
    client.close();
  });
}

// Goal:   a body that was only announced takes no memory.
// Method: many clients announce a megabyte and send nothing; each handler waits for it.
TEST_P(allocation_test, is_for_bodies_that_come_not_for_announced_ones) {
  run([] {
    constexpr int clients_count = 20;
    test::semaphore ended;
    running_server server{{.handler = [&](request& req, response&) {
      EXPECT_FALSE(req.read_all());
      ended.post();
    }}};
    std::vector<test::http_client> clients;
    for (int i = 0; i < clients_count; ++i) clients.push_back(server.client());
    const std::ptrdiff_t before = bytes_in_use;
    for (auto& client : clients) {
      client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n");
    }
    test::until_parked(clients_count, detail::wait_reason::io_read);
    EXPECT_LT(bytes_in_use - before, clients_count * 100'000);
    clients.clear();
    for (int i = 0; i < clients_count; ++i) ended.wait();
  });
}

// Twice the routes take about twice the memory, not four times.
TEST(router_allocation_test, grows_with_the_number_of_routes) {
  const auto bytes_of = [](int count) {
    const std::ptrdiff_t before = bytes_in_use;
    router routes;
    for (int i = 0; i < count; ++i) {
      routes.handle("GET /api/thing" + std::to_string(i) + "/{id}", [](request&, response&) {});
    }
    return bytes_in_use - before;
  };
  EXPECT_LT(bytes_of(400), 3 * bytes_of(200));
}

}  // namespace
}  // namespace exeunt::http

#endif
