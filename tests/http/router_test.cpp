// SPDX-License-Identifier: Apache-2.0
// Which handler a request reaches, seen from a client: HM-05 to HM-12.

#include <exeunt/http/router.hpp>

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include <exeunt/http/request.hpp>
#include <exeunt/http/response.hpp>
#include <exeunt/sched/runtime.hpp>

#include "support/http_client.hpp"
#include "support/on_workers.hpp"

namespace exeunt::http {
namespace {

using test::http_client;
using test::http_reply;
using test::running_server;

// Answers with the pattern's number and the values it matched.
handler say(std::string text, std::vector<std::string> names = {}) {
  return [text = std::move(text), names = std::move(names)](request& req, response& res) {
    res.text(text);
    for (const std::string& name : names) res.text(" ", name, "=", req.path_value(name));
  };
}

http_reply ask(http_client& client, std::string_view method, std::string_view target,
               std::string_view host = "a") {
  client.send(std::string{method} + " " + std::string{target} +
              " HTTP/1.1\r\nHost: " + std::string{host} + "\r\n\r\n");
  return client.reply(method == "HEAD");
}

class router_test : public test::on_workers {};
EXEUNT_ON_WORKERS(router_test);

// HM-05: the most specific one wins, whatever the order of registration.
TEST_P(router_test, the_most_specific_pattern_wins) {
  run([] {
    router routes;
    routes.handle("/", say("root"))
        .handle("/item/{user}/new", say("new", {"user"}))
        .handle("/item/{user}", say("user", {"user"}))
        .handle("/item/me", say("me"))
        .handle("/path/{p...}", say("path", {"p"}))
        .handle("GET /both", say("get"))
        .handle("/both", say("any"))
        .handle("/end/{$}", say("end"));
    running_server server{{.handler = routes}};
    auto client = server.client();
    const struct {
      std::string_view method;
      std::string_view target;
      std::string_view body;
    } cases[] = {
        {"GET", "/", "root"},
        {"GET", "/unknown/deep", "root"},
        {"GET", "/item/me", "me"},
        {"GET", "/item/ada", "user user=ada"},
        {"GET", "/item/ada/new", "new user=ada"},
        {"GET", "/item/me/new", "new user=me"},
        {"GET", "/item/ada/old", "root"},
        {"GET", "/path/a/b/", "path p=a/b/"},
        {"GET", "/path/", "path p="},
        {"GET", "/both", "get"},
        {"POST", "/both", "any"},
        {"GET", "/end/", "end"},
        {"GET", "/end/x", "root"},
        {"get", "/both", "any"},
    };
    for (const auto& c : cases) {
      const http_reply reply = ask(client, c.method, c.target);
      EXPECT_EQ(reply.status, 200) << c.method << ' ' << c.target;
      EXPECT_EQ(reply.body, c.body) << c.method << ' ' << c.target;
    }
    client.close();
  });
}

// HM-07: segments are split at raw slashes and then decoded.
TEST_P(router_test, escapes_are_decoded_after_splitting) {
  run([] {
    router routes;
    routes.handle("/a%20b/{x}", say("x", {"x"})).handle("/t/{y}/z", say("y", {"y"}));
    running_server server{{.handler = routes}};
    auto client = server.client();
    EXPECT_EQ(ask(client, "GET", "/a%20b/Ada%20L").body, "x x=Ada L");
    EXPECT_EQ(ask(client, "GET", "/t/a%2Fb/z").body, "y y=a/b");
    EXPECT_EQ(ask(client, "GET", "/t/%2F/z").body, "y y=/");
    EXPECT_EQ(ask(client, "GET", "/t/%zz/z").status, 400);
    client.close();
  });
}

// HM-08
TEST_P(router_test, a_wrong_method_is_told_the_right_ones) {
  run([] {
    router routes;
    routes.handle("GET /a", say("a")).handle("PUT /a", say("a")).handle("DELETE h/a", say("a"));
    running_server server{{.handler = routes}};
    auto client = server.client();
    http_reply reply = ask(client, "POST", "/a");
    EXPECT_EQ(reply.status, 405);
    EXPECT_EQ(reply.field("Allow"), "GET, HEAD, PUT");
    reply = ask(client, "POST", "/a", "h");
    EXPECT_EQ(reply.field("Allow"), "DELETE, GET, HEAD, PUT");
    EXPECT_EQ(ask(client, "POST", "/b").status, 404);
    reply = ask(client, "HEAD", "/a");
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.body, "");
    client.close();
  });
}

// HM-09
TEST_P(router_test, hosts_win_and_ports_do_not_count) {
  run([] {
    router routes;
    routes.handle("/a", say("general")).handle("example.com/", say("host"));
    running_server server{{.handler = routes}};
    auto client = server.client();
    EXPECT_EQ(ask(client, "GET", "/a").body, "general");
    EXPECT_EQ(ask(client, "GET", "/a", "example.com").body, "host");
    EXPECT_EQ(ask(client, "GET", "/a", "Example.COM:8080").body, "host");
    EXPECT_EQ(ask(client, "GET", "/a", "other.com").body, "general");
    client.close();
  });
}

// HM-09, HM-11
TEST_P(router_test, unclean_paths_and_missing_slashes_are_redirected) {
  run([] {
    router routes;
    routes.handle("/dir/", say("dir")).handle("/a/b", say("b"));
    running_server server{{.handler = routes}};
    auto client = server.client();
    const struct {
      std::string_view target;
      int status;
      std::string_view location;
    } cases[] = {
        {"/dir", 307, "/dir/"},
        {"/dir?q=1", 307, "/dir/?q=1"},
        {"/a//b", 301, "/a/b"},
        {"/a/./b?x", 301, "/a/b?x"},
        {"//evil.com/a", 301, "/evil.com/a"},
        {"/../../a/b", 301, "/a/b"},
    };
    for (const auto& c : cases) {
      const http_reply reply = ask(client, "GET", c.target);
      EXPECT_EQ(reply.status, c.status) << c.target;
      EXPECT_EQ(reply.field("Location"), c.location) << c.target;
    }
    client.close();
  });
}

// HM-12
TEST_P(router_test, routes_may_be_added_while_it_serves) {
  run([] {
    router routes;
    running_server server{{.handler = routes}};
    auto client = server.client();
    EXPECT_EQ(ask(client, "GET", "/late").status, 404);
    for (int i = 0; i < 50; ++i) {
      go([routes, i]() mutable { routes.handle("/r" + std::to_string(i), say("r")); });
      EXPECT_EQ(ask(client, "GET", "/none").status, 404);
    }
    routes.handle("/late", say("now"));
    EXPECT_EQ(ask(client, "GET", "/late").body, "now");
    client.close();
  });
}

TEST(router, refuses_conflicts_empty_handlers_and_malformed_patterns) {
  router routes;
  routes.handle("/a/{x}", say("1"));
  try {
    routes.handle("/a/{y}", say("2"));
    FAIL() << "the conflict was not refused";
  } catch (const panic_error& e) {
    const std::string text = e.what();
    EXPECT_NE(text.find("/a/{x}"), std::string::npos) << text;
    EXPECT_NE(text.find("/a/{y}"), std::string::npos) << text;
    EXPECT_NE(text.find("router_test.cpp:"), std::string::npos) << text;
  }
  EXPECT_THROW(routes.handle("/b", handler{}), panic_error);
  EXPECT_THROW(routes.handle("no slash", say("3")), panic_error);
}

}  // namespace
}  // namespace exeunt::http
