// SPDX-License-Identifier: Apache-2.0
// Names to addresses, by the system's resolver on a thread of the side pool. Stateless.
// Tests: tests/net/address_test.cpp.

#include <exeunt/net/address.hpp>

#include <netdb.h>
#include <sys/socket.h>
#include <algorithm>
#include <cerrno>
#include <memory>

#include <exeunt/context/blocking.hpp>

namespace exeunt::net {

namespace {

// What getaddrinfo says when it fails.
class lookup_category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "lookup"; }
  std::string message(int code) const override {
    switch (code) {
      case EAI_NONAME:
      case EAI_NODATA:
        return "no such host";
      case EAI_AGAIN:
        return "temporary failure in name resolution";
      case EAI_SERVICE:
        return "unknown port";
      default:
        return ::gai_strerror(code);
    }
  }
};

const std::error_category& lookup_errors() noexcept {
  static const lookup_category instance;
  return instance;
}

result<std::vector<address>> look_up(int domain, const std::string& host, const std::string& port) {
  addrinfo hints{};
  hints.ai_family = domain;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int outcome = ::getaddrinfo(host.empty() ? nullptr : host.c_str(),
                                    port.empty() ? "0" : port.c_str(), &hints, &found);
  if (outcome == EAI_SYSTEM) return fail(error::from_errno(errno));
  if (outcome != 0) return fail(error{std::error_code{outcome, lookup_errors()}});
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner{found, &::freeaddrinfo};
  std::vector<address> addresses;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    address next = address::from_native(one->ai_addr, one->ai_addrlen);
    if (next.is_ip()) addresses.push_back(std::move(next));
  }
  if (addresses.empty()) return fail(error{std::error_code{EAI_NONAME, lookup_errors()}});
  return addresses;
}

}  // namespace

result<std::vector<address>> resolve(const context& ctx, std::string_view network,
                                     std::string_view text) {
  if (network == "unix") {
    auto local = address::parse(is_unix(text) ? std::string{text} : "unix:" + std::string{text});
    if (!local) return fail(local.error());
    return std::vector{std::move(*local)};
  }
  const int domain = network == "tcp"    ? AF_UNSPEC
                     : network == "tcp4" ? AF_INET
                     : network == "tcp6" ? AF_INET6
                                         : -1;
  if (domain < 0) return fail(errc::malformed, "unknown network " + std::string{network});

  const auto parts = split_host_port(text);
  if (!parts) return fail(parts.error());
  const auto fits = [domain](const address& one) {
    return domain == AF_UNSPEC || one.family() == (domain == AF_INET ? family::ipv4 : family::ipv6);
  };
  const std::string_view port = parts->port.empty() ? std::string_view{"0"} : parts->port;
  const bool is_number = std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; });
  const std::string_view probe = parts->host.empty() ? std::string_view{"127.0.0.1"} : parts->host;
  const auto literal = address::parse(join_host_port(probe, port));
  if (literal) {
    std::vector<address> addresses{*literal};
    if (parts->host.empty()) {
      addresses.push_back(*address::parse(join_host_port("::1", port)));
    }
    std::erase_if(addresses, [&](const address& one) { return !fits(one); });
    if (addresses.empty()) return fail(errc::malformed, "address of another family");
    return addresses;
  }
  if (is_number && literal.error().message() == "invalid port in address") {
    return fail(literal.error());  // The system's resolver would cut it to 16 bits.
  }

  auto found = blocking(ctx, [domain, host = std::string{parts->host}, name = std::string{port}] {
    return look_up(domain, host, name);
  });
  if (found) return found;
  if (found.error().is(errc::canceled) || found.error().is(errc::deadline_exceeded)) return found;
  const std::string_view what =
      found.error().code() == std::error_code{EAI_SERVICE, lookup_errors()} ? port : parts->host;
  return fail(found.error().wrap("lookup " + std::string{what}));
}

}  // namespace exeunt::net
