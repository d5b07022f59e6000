// SPDX-License-Identifier: Apache-2.0
// The sockets of a simulation.

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <exeunt/base/clock.hpp>
#include <exeunt/net/address.hpp>
#include <exeunt/sched/timer_node.hpp>
#include <exeunt/sim/network.hpp>

#include "net/socket_calls.hpp"
#include "sim/choices.hpp"

namespace exeunt::sched {
class runtime_core;
}

namespace exeunt::sim {

/// Threads: the simulation's worker.
class network_core final : public net::socket_calls {
 public:
  explicit network_core(choices& source) : choices_{source}, deliveries_timer_{*this} {}
  ~network_core() override = default;

  /// Of the simulation's runtime, when it has begun.
  void belong_to(sched::runtime_core& home) noexcept { home_ = &home; }
  /// Forgets all, as if nothing had been.
  void reset() noexcept;
  [[nodiscard]] bool is_up() const noexcept { return is_up_; }
  void up(const network_options& options);
  void down() noexcept;
  void set(const network_options& options) noexcept { options_ = options; }
  [[nodiscard]] std::size_t open_sockets() const noexcept;
  /// One line for each: "listener at 10.0.0.1:80".
  [[nodiscard]] std::string describe_open() const;

  // The poller's side.
  void watch(int fd, std::uint64_t token);
  void unwatch(int fd) noexcept;

  // As the system calls.
  int open(net::family of) override;
  int listen(int fd, const net::address& where, int backlog) override;
  int accept(int fd, net::address& from) override;
  int connect(int fd, const net::address& to) override;
  int connect_outcome(int fd) override;
  std::ptrdiff_t receive(int fd, net::buffer into) override;
  std::ptrdiff_t send(int fd, std::span<const net::const_buffer> from, std::size_t offset) override;
  int shutdown_write(int fd) override;
  void discard_on_close(int fd) override;
  void close(int fd) override;
  net::address local_address(int fd) override;
  net::address peer_address(int fd) override;
  bool is_listening(int fd) override;
  std::size_t waiting(int fd) override;
  void stop_incoming(int fd) override;
  state look(int fd) override;
  bool all_arrived(int fd) override;

 private:
  enum class stage : std::uint8_t { fresh, listening, connecting, connected, refused };

  struct socket {
    net::family family = net::family::none;
    stage at = stage::fresh;
    net::address local;
    net::address remote;
    std::uint64_t token = 0;
    bool watched = false;
    int peer = -1;  // -1: none, or gone.
    // To read.
    std::vector<std::byte> inbox;
    std::size_t read_to = 0;
    bool ended = false;   // The peer's end has arrived.
    bool broken = false;  // A reset has.
    // To write.
    std::size_t on_the_way = 0;  // Bytes to the peer that have not arrived.
    bool shut = false;           // No more will be sent.
    bool wants_room = false;     // A write did less than asked.
    bool discards = false;
    clock::time_point last_arrival{};
    // A listener's.
    std::deque<int> clients;
    std::size_t backlog = 0;
    bool deaf = false;
  };

  struct delivery {
    enum class what : std::uint8_t { bytes, end, reset, request, answer, refusal, room };
    what kind = what::bytes;
    int to = -1;
    int from = -1;
    std::vector<std::byte> bytes{};
  };

  struct timer final : detail::timer_node {
    explicit timer(network_core& core) noexcept : timer_node{&timer::fired}, owner{core} {}
    static clock::time_point fired(timer_node& self, clock::time_point now) noexcept {
      return static_cast<timer&>(self).owner.deliver_due(now);
    }
    network_core& owner;
  };

  [[nodiscard]] socket* find(int fd) noexcept;
  [[nodiscard]] int add(std::unique_ptr<socket> made);
  [[nodiscard]] int find_listener(const net::address& to) noexcept;
  [[nodiscard]] net::address fresh_address(const net::address& like);
  [[nodiscard]] clock::duration delay();
  [[nodiscard]] std::size_t room(const socket& from) noexcept;
  void post(delivery what, clock::duration after);
  void post_in_order(socket& from, delivery what, clock::duration after);
  void deliver(delivery& what) noexcept;
  [[nodiscard]] clock::time_point deliver_due(clock::time_point now) noexcept;
  void arrive(socket& at, bool readable, bool writable) noexcept;
  void break_off(socket& one) noexcept;

  choices& choices_;
  sched::runtime_core* home_ = nullptr;
  network_options options_;
  bool is_up_ = false;
  std::vector<std::unique_ptr<socket>> sockets_;  // By fd; null: closed.
  std::uint16_t next_port_ = 0;
  // By time, then by their order.
  std::map<std::pair<clock::time_point, std::uint64_t>, delivery> due_;
  std::uint64_t posted_ = 0;
  bool delivering_ = false;
  timer deliveries_timer_;
};

}  // namespace exeunt::sim
