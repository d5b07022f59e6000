// SPDX-License-Identifier: Apache-2.0

#include <exeunt/net/address.hpp>

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <array>
#include <cstring>
#include <string>

#include "support/on_workers.hpp"

namespace exeunt::net {
namespace {

TEST(net_address, splits_host_and_port) {
  struct row {
    std::string_view text;
    std::string_view host;
    std::string_view port;
  };
  constexpr row rows[] = {
      {"127.0.0.1:80", "127.0.0.1", "80"},
      {":8080", "", "8080"},
      {"[::1]:80", "::1", "80"},
      {"localhost:http", "localhost", "http"},
      {"[fe80::1%lo]:1", "fe80::1%lo", "1"},
      {"host:", "host", ""},
      {":", "", ""},
      {"[]:1", "", "1"},
  };
  for (const row& r : rows) {
    const auto parts = split_host_port(r.text);
    ASSERT_TRUE(parts.has_value()) << r.text;
    EXPECT_EQ(parts->host, r.host) << r.text;
    EXPECT_EQ(parts->port, r.port) << r.text;
  }
}

TEST(net_address, refuses_what_is_no_host_and_port) {
  using namespace std::string_view_literals;
  for (const std::string_view text :
       {""sv, "host"sv, "::1"sv, "::1:80"sv, "[::1]"sv, "[::1"sv, "[::1]80"sv, "a[b]:1"sv,
        "host:1:2"sv, "[::1]:8]"sv, "[[::1]]:1"sv, "a\0b:1"sv}) {
    const auto parts = split_host_port(text);
    ASSERT_FALSE(parts.has_value()) << text;
    EXPECT_TRUE(parts.error().is(errc::malformed)) << text;
  }
}

TEST(net_address, joins_with_brackets_where_needed) {
  EXPECT_EQ(join_host_port("host", "1"), "host:1");
  EXPECT_EQ(join_host_port("::1", "80"), "[::1]:80");
  EXPECT_EQ(join_host_port("", "80"), ":80");
}

TEST(net_address, prints_what_it_parsed) {
  for (const char* const text : {"127.0.0.1:80", "0.0.0.0:0", "[::1]:65535", "[2001:db8::1]:443",
                                 "[::]:1", "/run/a.sock", "@hidden"}) {
    const auto parsed = address::parse(text);
    ASSERT_TRUE(parsed.has_value()) << text;
    EXPECT_EQ(parsed->to_string(), text);
  }
  EXPECT_EQ(address::parse("unix:/a/b")->to_string(), "/a/b");
  EXPECT_EQ(address::parse("unix:relative")->path(), "relative");
  EXPECT_EQ(address::parse("[fe80::1%lo]:9")->to_string(), "[fe80::1%lo]:9");
  EXPECT_EQ(address{}.to_string(), "");
}

TEST(net_address, tells_its_parts) {
  const auto v4 = address::parse("10.1.2.3:81");
  EXPECT_EQ(v4->family(), family::ipv4);
  EXPECT_EQ(v4->host(), "10.1.2.3");
  EXPECT_EQ(v4->port(), 81);
  EXPECT_TRUE(v4->is_ip());
  const auto local = address::parse("/x");
  EXPECT_EQ(local->family(), family::unix_path);
  EXPECT_FALSE(local->is_ip());
  EXPECT_EQ(local->port(), 0);
}

TEST(net_address, refuses_what_is_no_address) {
  const std::string long_path = "/" + std::string(200, 'x');
  for (const std::string& text :
       {std::string{":80"}, std::string{"localhost:80"}, std::string{"1.2.3:80"},
        std::string{"1.2.3.4:65536"}, std::string{"1.2.3.4:-1"}, std::string{"1.2.3.4:"},
        std::string{"1.2.3.4:8x"}, std::string{"1.2.3.4"}, std::string{"[1::2::3]:4"},
        std::string{"[fe80::1%nothing-here]:4"}, std::string{"unix:"}, long_path}) {
    const auto parsed = address::parse(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_TRUE(parsed.error().is(errc::malformed)) << text;
  }
}

TEST(net_address, survives_the_systems_form) {
  for (const char* const text :
       {"1.2.3.4:5", "[2001:db8::7]:8", "/tmp/socket", "@name", "[fe80::2%lo]:3"}) {
    const address before = *address::parse(text);
    sockaddr_storage native{};
    const std::size_t size = before.to_native(&native);
    ASSERT_GT(size, 0U);
    EXPECT_EQ(address::from_native(&native, size), before) << text;
  }
  sockaddr_storage native{};
  EXPECT_EQ(address{}.to_native(&native), 0U);
  EXPECT_EQ(address::from_native(&native, sizeof native).family(), family::none);
}

TEST(net_address, shows_a_mapped_address_as_ipv4) {
  sockaddr_storage native{};
  const std::size_t size = address::parse("[::ffff:1.2.3.4]:5")->to_native(&native);
  EXPECT_EQ(address::from_native(&native, size), *address::parse("1.2.3.4:5"));
}

TEST(net_address, longest_path_fits_and_one_more_does_not) {
  constexpr std::size_t path_max = sizeof(sockaddr_un{}.sun_path) - 1;
  EXPECT_TRUE(address::parse("/" + std::string(path_max - 1, 'p')).has_value());
  EXPECT_FALSE(address::parse("/" + std::string(path_max, 'p')).has_value());
}

class net_resolve_test : public test::on_workers {};

TEST_P(net_resolve_test, takes_literals_as_they_are) {
  run([] {
    const auto found = resolve(context::background(), "tcp", "127.0.0.1:80");
    ASSERT_TRUE(found.has_value());
    ASSERT_EQ(found->size(), 1U);
    EXPECT_EQ(found->front().to_string(), "127.0.0.1:80");
  });
}

TEST_P(net_resolve_test, finds_names_of_hosts_and_services) {
  run([] {
    const auto found = resolve(context::background(), "tcp4", "localhost:80");
    ASSERT_TRUE(found.has_value()) << found.error().message();
    EXPECT_EQ(found->front().to_string(), "127.0.0.1:80");
  });
}

TEST_P(net_resolve_test, takes_no_host_for_this_one) {
  run([] {
    const auto found = resolve(context::background(), "tcp", ":80");
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->front().to_string(), "127.0.0.1:80");
    EXPECT_EQ(found->back().to_string(), "[::1]:80");
    EXPECT_EQ(resolve(context::background(), "tcp6", ":80")->front().to_string(), "[::1]:80");
  });
}

TEST_P(net_resolve_test, says_what_it_did_not_find) {
  run([] {
    const auto found = resolve(context::background(), "tcp", "nowhere.invalid:80");
    ASSERT_FALSE(found.has_value());
    EXPECT_TRUE(found.error().message().starts_with("lookup nowhere.invalid: "))
        << found.error().message();
    EXPECT_TRUE(resolve(context::background(), "tcp", "1.2.3.4:70000").error().is(errc::malformed));
    EXPECT_TRUE(resolve(context::background(), "udp", "1.2.3.4:7").error().is(errc::malformed));
    EXPECT_TRUE(resolve(context::background(), "tcp6", "1.2.3.4:7").error().is(errc::malformed));
  });
}

TEST_P(net_resolve_test, ends_with_its_context) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    cancel();
    EXPECT_TRUE(resolve(ctx, "tcp", "localhost:80").error().is(errc::canceled));
  });
}

EXEUNT_ON_WORKERS(net_resolve_test);

}  // namespace
}  // namespace exeunt::net
