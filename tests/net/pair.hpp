// SPDX-License-Identifier: Apache-2.0
// Two joined connections, over TCP on the loopback or over a unix socket.

#pragma once

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <string>
#include <utility>

#include <exeunt/net/conn.hpp>
#include <exeunt/net/listener.hpp>

namespace exeunt::test {

struct conn_pair {
  net::conn client;
  net::conn server;
};

inline conn_pair tcp_pair() {
  auto door = net::listen("127.0.0.1:0");
  EXPECT_TRUE(door.has_value());
  auto client = net::dial("tcp", door->local_address().to_string());
  EXPECT_TRUE(client.has_value());
  auto server = door->accept();
  EXPECT_TRUE(server.has_value());
  return {std::move(*client), std::move(*server)};
}

inline conn_pair unix_pair() {
  int fds[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  auto first = net::conn::adopt(fds[0]);
  auto second = net::conn::adopt(fds[1]);
  EXPECT_TRUE(first.has_value() && second.has_value());
  return {std::move(*first), std::move(*second)};
}

/// Writes until the system takes no more. Returns: the number of bytes.
inline std::size_t fill(net::conn& into) {
  const std::string chunk(64 * 1024, 'f');
  const net::const_buffer one{chunk};
  std::size_t total = 0;
  while (true) {
    const auto count = into.try_write({&one, 1});
    EXPECT_TRUE(count.has_value());
    if (!count || *count == 0) return total;
    total += *count;
  }
}

}  // namespace exeunt::test
