// SPDX-License-Identifier: Apache-2.0
// Sockets in memory, for simulations: what `net` and `http` do inside goes by them, with the
// simulation's time.
//
//   sim::bubble([] {
//     sim::network wires{{.delay_min = 1ms, .delay_max = 50ms, .cuts = 3}};
//     http::server app{{.address = "10.0.0.1:80", .handler = api}};
//     …
//   });

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>

namespace exeunt::sim {

class network_core;

/// How good the wires are. What is a chance is a choice of the schedule: the same seed gives the
/// same faults, and a replay repeats them. One in 0 is never, one in 1 always; an exhaustive
/// exploration tries both, however rare the fault is.
struct network_options {
  /// From the sending of a byte, or of a request to connect, to its arrival. What one connection
  /// sends in one direction arrives in order.
  clock::duration delay_min{};
  clock::duration delay_max{};
  /// One write in so many is taken in part only, or arrives in two parts.
  std::uint32_t cuts = 0;
  /// One write in so many resets its connection instead of arriving.
  std::uint32_t resets = 0;
  /// One accept in so many fails for want of descriptors (EMFILE), and may be tried again: so with
  /// 1 no accept ever ends, and no exhaustive exploration is covered.
  std::uint32_t accept_failures = 0;
  /// Bytes that one direction of a connection holds: on the way, and arrived but not read.
  std::size_t window = std::size_t{64} * 1024;
};

/// While it lives, the simulation has a network, with every IP address and every path of a unix
/// socket at hand. Without one, to open a socket fails with EOPNOTSUPP. Names of hosts are not
/// resolved; write addresses as numbers.
///
/// When it is destroyed, all that is open is reset. A socket that is open when the simulation ends
/// is a failure of it (failure::reason::left).
///
/// Threads: a fiber of the simulation, and one network at a time.
class EXEUNT_API network {
 public:
  /// Throws: std::logic_error outside of a simulation, or if there is one.
  explicit network(const network_options& options = {});
  ~network();
  network(const network&) = delete;
  network& operator=(const network&) = delete;

  /// From now on.
  void set(const network_options& options);
  /// Sockets that are open: listeners, connections and their peers.
  [[nodiscard]] std::size_t open_sockets() const noexcept;

 private:
  network_core* core_;
};

}  // namespace exeunt::sim
