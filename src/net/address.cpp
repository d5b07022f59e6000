// SPDX-License-Identifier: Apache-2.0
// Addresses as text and as the system's structures. Stateless.

#include <exeunt/net/address.hpp>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <algorithm>
#include <charconv>
#include <cstring>

namespace exeunt::net {

namespace {

constexpr std::string_view unix_prefix = "unix:";
constexpr std::size_t path_bytes_max = sizeof(sockaddr_un{}.sun_path);
constexpr std::array<std::uint8_t, 12> mapped_prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (failure != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return port;
}

std::uint32_t scope_of(const std::string& zone) {
  std::uint32_t number = 0;
  const auto [end, failure] = std::from_chars(zone.data(), zone.data() + zone.size(), number);
  if (failure == std::errc{} && end == zone.data() + zone.size()) return number;
  return ::if_nametoindex(zone.c_str());
}

}  // namespace

result<host_port> split_host_port(std::string_view text) {
  std::string_view host;
  std::size_t colon = 0;
  if (text.starts_with('[')) {
    const std::size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) return fail(errc::malformed, "missing ']' in address");
    host = text.substr(1, bracket - 1);
    colon = bracket + 1;
    if (colon == text.size()) return fail(errc::malformed, "missing port in address");
    if (text[colon] != ':') return fail(errc::malformed, "unexpected text after ']' in address");
  } else {
    colon = text.rfind(':');
    if (colon == std::string_view::npos) return fail(errc::malformed, "missing port in address");
    host = text.substr(0, colon);
    if (host.find(':') != std::string_view::npos) {
      return fail(errc::malformed, "too many colons in address");
    }
  }
  const std::string_view port = text.substr(colon + 1);
  if (host.find_first_of("[]") != std::string_view::npos ||
      port.find_first_of("[]:") != std::string_view::npos) {
    return fail(errc::malformed, "unexpected bracket or colon in address");
  }
  if (text.find('\0') != std::string_view::npos) {
    return fail(errc::malformed, "zero byte in address");
  }
  return host_port{.host = host, .port = port};
}

std::string join_host_port(std::string_view host, std::string_view port) {
  const bool bracketed = host.find(':') != std::string_view::npos;
  std::string text;
  text.reserve(host.size() + port.size() + 3);
  if (bracketed) text += '[';
  text += host;
  if (bracketed) text += ']';
  text += ':';
  text += port;
  return text;
}

bool is_unix(std::string_view text) noexcept {
  return text.starts_with(unix_prefix) || text.starts_with('/') || text.starts_with('@');
}

result<address> address::parse(std::string_view text) {
  address parsed;
  if (is_unix(text)) {
    if (text.starts_with(unix_prefix)) text.remove_prefix(unix_prefix.size());
    if (text.empty()) return fail(errc::malformed, "empty path of a unix socket");
    // A path is closed by a zero byte; an abstract name has one in front instead.
    if (text.size() >= path_bytes_max) return fail(errc::malformed, "unix socket path too long");
    if (text.find('\0') != std::string_view::npos) {
      return fail(errc::malformed, "zero byte in address");
    }
    parsed.family_ = family::unix_path;
    parsed.path_ = text;
    return parsed;
  }

  const result<host_port> parts = split_host_port(text);
  if (!parts) return fail(parts.error());
  const std::optional<std::uint16_t> port = parse_port(parts->port);
  if (!port) return fail(errc::malformed, "invalid port in address");
  parsed.port_ = *port;

  const std::size_t percent = parts->host.find('%');
  const std::string host{parts->host.substr(0, percent)};
  if (percent == std::string_view::npos &&
      ::inet_pton(AF_INET, host.c_str(), parsed.bytes_.data()) == 1) {
    parsed.family_ = family::ipv4;
    return parsed;
  }
  if (::inet_pton(AF_INET6, host.c_str(), parsed.bytes_.data()) != 1) {
    return fail(errc::malformed, "not an IP address");
  }
  parsed.family_ = family::ipv6;
  if (percent != std::string_view::npos) {
    parsed.scope_ = scope_of(std::string{parts->host.substr(percent + 1)});
    if (parsed.scope_ == 0) return fail(errc::malformed, "unknown interface in address");
  }
  return parsed;
}

address address::from_native(const void* socket_address, std::size_t size) {
  address made;
  sockaddr_storage native{};
  std::memcpy(&native, socket_address, std::min(size, sizeof native));
  if (native.ss_family == AF_INET && size >= sizeof(sockaddr_in)) {
    const auto& ip = reinterpret_cast<const sockaddr_in&>(native);
    made.family_ = family::ipv4;
    made.port_ = ntohs(ip.sin_port);
    std::memcpy(made.bytes_.data(), &ip.sin_addr, sizeof ip.sin_addr);
  } else if (native.ss_family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
    const auto& ip = reinterpret_cast<const sockaddr_in6&>(native);
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(&ip.sin6_addr);
    made.port_ = ntohs(ip.sin6_port);
    if (std::equal(mapped_prefix.begin(), mapped_prefix.end(), bytes)) {
      made.family_ = family::ipv4;
      std::copy_n(bytes + mapped_prefix.size(), 4, made.bytes_.begin());
    } else {
      made.family_ = family::ipv6;
      made.scope_ = ip.sin6_scope_id;
      std::copy_n(bytes, made.bytes_.size(), made.bytes_.begin());
    }
  } else if (native.ss_family == AF_UNIX && size > offsetof(sockaddr_un, sun_path)) {
    const auto& local = reinterpret_cast<const sockaddr_un&>(native);
    const std::size_t length = std::min(size - offsetof(sockaddr_un, sun_path), path_bytes_max);
    made.family_ = family::unix_path;
    if (local.sun_path[0] == '\0') {
      made.path_ = "@" + std::string{local.sun_path + 1, length - 1};
    } else {
      made.path_.assign(local.sun_path, ::strnlen(local.sun_path, length));
    }
  }
  return made;
}

std::size_t address::to_native(void* room) const noexcept {
  switch (family_) {
    case family::none:
      return 0;
    case family::ipv4: {
      sockaddr_in ip{};
      ip.sin_family = AF_INET;
      ip.sin_port = htons(port_);
      std::memcpy(&ip.sin_addr, bytes_.data(), sizeof ip.sin_addr);
      std::memcpy(room, &ip, sizeof ip);
      return sizeof ip;
    }
    case family::ipv6: {
      sockaddr_in6 ip{};
      ip.sin6_family = AF_INET6;
      ip.sin6_port = htons(port_);
      ip.sin6_scope_id = scope_;
      std::memcpy(&ip.sin6_addr, bytes_.data(), sizeof ip.sin6_addr);
      std::memcpy(room, &ip, sizeof ip);
      return sizeof ip;
    }
    case family::unix_path: {
      sockaddr_un local{};
      local.sun_family = AF_UNIX;
      std::memcpy(local.sun_path, path_.data(), path_.size());
      const bool is_abstract = path_.starts_with('@');
      if (is_abstract) local.sun_path[0] = '\0';
      std::memcpy(room, &local, sizeof local);
      return offsetof(sockaddr_un, sun_path) + path_.size() + (is_abstract ? 0 : 1);
    }
  }
  return 0;
}

std::string address::host() const {
  if (!is_ip()) return {};
  char text[INET6_ADDRSTRLEN] = "";
  ::inet_ntop(family_ == family::ipv4 ? AF_INET : AF_INET6, bytes_.data(), text, sizeof text);
  std::string host{text};
  if (scope_ != 0) {
    char name[IF_NAMESIZE] = "";
    host += '%';
    host += ::if_indextoname(scope_, name) != nullptr ? name : std::to_string(scope_);
  }
  return host;
}

std::string address::to_string() const {
  if (!is_ip()) return path_;
  return join_host_port(host(), std::to_string(port_));
}

}  // namespace exeunt::net
