// SPDX-License-Identifier: Apache-2.0
// The debug pages, asked for over a connection as a browser would.

#include <exeunt/app/debug.hpp>

#include <gtest/gtest.h>
#include <atomic>
#include <string>
#include <string_view>
#include <utility>

#include <exeunt/chan/chan.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/group/errgroup.hpp>
#include <exeunt/group/spawn.hpp>
#include <exeunt/http/server.hpp>
#include <exeunt/net/conn.hpp>
#include <exeunt/sched/go.hpp>

#include "support/on_workers.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

struct reply {
  int status = 0;
  std::string head;
  std::string body;
};

/// One request on a connection of its own.
reply get(const net::address& where, std::string_view target) {
  const context ctx = context::background();
  auto conn = net::dial(ctx, where);
  EXPECT_TRUE(conn) << conn.error().message();
  if (!conn) return {};
  const std::string head =
      "GET " + std::string{target} + " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
  EXPECT_TRUE(conn->write(ctx, head));
  std::string all;
  char some[4096];
  while (const result<std::size_t> count = conn->read(ctx, some)) {
    if (*count == 0) break;
    all.append(some, *count);
  }
  const std::size_t end = all.find("\r\n\r\n");
  EXPECT_NE(end, all.npos) << all;
  if (end == all.npos || all.size() < 12) return {};
  return {.status = std::stoi(all.substr(9, 3)),
          .head = all.substr(0, end),
          .body = all.substr(end + 4)};
}

bool has(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

/// A server with the pages; each test asks and leaves.
class debug_handler_test : public test::on_workers {
 protected:
  template <typename F>
  void serve(app::debug_options options, F&& ask) {
    run([&] {
      http::server server{{.address = "127.0.0.1:0",
                           .handler = app::debug_handler(std::move(options)),
                           .log = [](std::string_view) {}}};
      const auto bound = server.listen();
      ASSERT_TRUE(bound) << bound.error().message();
      auto [ctx, stop] = with_cancel(context::background());
      errgroup group{ctx};
      group.go([&](const context& group_ctx) { return server.serve(group_ctx); });
      ask(server.address());
      stop();
      EXPECT_TRUE(group.wait());
    });
  }
};

TEST_P(debug_handler_test, is_healthy_and_by_default_ready) {
  serve({}, [](const net::address& at) {
    EXPECT_EQ(get(at, "/healthz").status, 200);
    EXPECT_EQ(get(at, "/healthz").body, "ok\n");
    EXPECT_EQ(get(at, "/readyz").status, 200);
    EXPECT_EQ(get(at, "/nothing").status, 404);
  });
}

TEST_P(debug_handler_test, asks_each_time_whether_it_is_ready) {
  std::atomic<bool> ready{false};
  serve({.ready = [&] { return ready.load(); }}, [&](const net::address& at) {
    EXPECT_EQ(get(at, "/readyz").status, 503);
    EXPECT_EQ(get(at, "/healthz").status, 200) << "not ready is not ill";
    ready = true;
    EXPECT_EQ(get(at, "/readyz").status, 200);
    ready = false;
    EXPECT_EQ(get(at, "/readyz").status, 503);
  });
}

TEST_P(debug_handler_test, shows_what_a_parked_fiber_waits_for_and_where_it_started) {
  serve({}, [](const net::address& at) {
    chan<void> release;
    const int line = __LINE__ + 1;
    auto waiting = spawn({.name = "quoted \"name\""}, [&] { static_cast<void>(release.recv()); });
    test::until_parked(1, detail::wait_reason::chan_recv);

    const std::string text = get(at, "/debug/fibers").body;
    EXPECT_TRUE(has(text, "quoted")) << text;
    EXPECT_TRUE(has(text, "waits for channel receive")) << text;
    EXPECT_TRUE(has(text, "debug_test.cpp:" + std::to_string(line))) << text;

    const reply json = get(at, "/debug/fibers?format=json");
    EXPECT_TRUE(has(json.head, "application/json")) << json.head;
    EXPECT_TRUE(has(json.body, R"("name":"quoted \"name\"","state":"parked","waits_for":"channel )"
                               R"(receive","since_ms":)"))
        << json.body;
    EXPECT_TRUE(has(json.body, "\"line\":" + std::to_string(line) + "}")) << json.body;
    EXPECT_TRUE(has(json.body, R"("state":"running")")) << "the one that answers: " << json.body;

    release.close();
    EXPECT_TRUE(waiting.join());
  });
}

TEST_P(debug_handler_test, counts_in_the_format_of_prometheus) {
  serve({}, [](const net::address& at) {
    const reply stats = get(at, "/debug/stats");
    EXPECT_TRUE(has(stats.head, "text/plain; version=0.0.4")) << stats.head;
    EXPECT_TRUE(has(stats.body, "# TYPE exeunt_workers gauge\nexeunt_workers " +
                                    std::to_string(GetParam()) + "\n"))
        << stats.body;
    EXPECT_TRUE(has(stats.body, "\nexeunt_panics_total 0\n")) << stats.body;
    EXPECT_TRUE(has(stats.body, "# TYPE exeunt_blocking_threads gauge\n")) << stats.body;
    EXPECT_TRUE(has(stats.body, "\nexeunt_blocking_queued 0\n")) << stats.body;
    EXPECT_FALSE(has(stats.body, "\nexeunt_fibers 0\n")) << "at least this test runs";
  });
}

EXEUNT_ON_WORKERS(debug_handler_test);

}  // namespace
}  // namespace exeunt
