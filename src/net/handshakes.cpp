// SPDX-License-Identifier: Apache-2.0
// Handshakes under way, from the system's table of connections by way of sock_diag(7). The file
// /proc/net/tcp says the same, but prints every connection of the machine for it.
// Tests: tests/net/listener_test.cpp.

#include "net/handshakes.hpp"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <array>
#include <cerrno>
#include <cstring>

#include "net/socket.hpp"

namespace exeunt::net {

namespace {

struct question {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

[[gnu::noinline]] int open_diagnosis() noexcept {
  const int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
  return fd >= 0 ? fd : -errno;
}

question about(int domain, std::uint16_t port) noexcept {
  question asked{};
  asked.header.nlmsg_len = sizeof asked;
  asked.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  asked.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  asked.body.sdiag_family = static_cast<std::uint8_t>(domain);
  asked.body.sdiag_protocol = IPPROTO_TCP;
  asked.body.idiag_states = std::uint32_t{1} << TCP_SYN_RECV;
  asked.body.id.idiag_sport = htons(port);
  asked.body.id.idiag_cookie[0] = asked.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return asked;
}

// Adds to `count` those of one address family. Returns: 0 or a negated errno value.
int count_family(int fd, int domain, std::uint16_t port, std::size_t& count) noexcept {
  const question asked = about(domain, port);
  const const_buffer whole{&asked, sizeof asked};
  if (const auto sent = send_now(fd, {&whole, 1}, 0); sent < 0) return static_cast<int>(sent);
  // The kernel fills this much at a time, and writes each part of the answer when it is asked for.
  alignas(nlmsghdr) std::array<char, 8192> bytes;
  while (true) {
    const auto got = receive_now(fd, buffer{bytes});
    if (got <= 0) return got < 0 ? static_cast<int>(got) : -EPROTO;
    auto left = static_cast<unsigned>(got);
    for (auto* one = reinterpret_cast<nlmsghdr*>(bytes.data()); NLMSG_OK(one, left);
         one = NLMSG_NEXT(one, left)) {
      if (one->nlmsg_type == NLMSG_DONE) return 0;
      if (one->nlmsg_type == NLMSG_ERROR) {
        nlmsgerr why{};
        std::memcpy(&why, NLMSG_DATA(one), sizeof why);
        return why.error != 0 ? why.error : -EPROTO;
      }
      ++count;
    }
  }
}

}  // namespace

result<std::size_t> count_handshakes(const address& local) {
  const int fd = open_diagnosis();
  if (fd < 0) return fail(error::from_errno(-fd));
  std::size_t count = 0;
  int outcome = count_family(fd, AF_INET, local.port(), count);
  if (outcome == 0 && local.family() == family::ipv6) {
    outcome = count_family(fd, AF_INET6, local.port(), count);
  }
  close_now(fd);
  if (outcome < 0) return fail(error::from_errno(-outcome));
  return count;
}

}  // namespace exeunt::net
