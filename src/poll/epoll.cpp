// SPDX-License-Identifier: Apache-2.0
// epoll with one edge-triggered registration a descriptor, and an eventfd to be woken by.
//
// Invariants:
//   I1  A wake() that no wait() has consumed makes the next blocking wait() return at once.
// Tests: tests/poll/epoll_test.cpp.

#include "poll/poller.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <system_error>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/race.hpp>

namespace exeunt::poll {

namespace {

constexpr std::uint64_t wake_token = ~std::uint64_t{0};
constexpr std::size_t batch_max = 128;

class epoll_poller final : public poller {
 public:
  epoll_poller() {
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) throw std::system_error{errno, std::system_category(), "epoll_create1"};
    wake_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    epoll_event interest{};
    interest.events = EPOLLIN;
    interest.data.u64 = wake_token;
    if (wake_ < 0 || ::epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &interest) != 0) {
      const int number = errno;
      ::close(epoll_);
      if (wake_ >= 0) ::close(wake_);
      throw std::system_error{number, std::system_category(), "eventfd"};
    }
  }
  ~epoll_poller() override {
    ::close(wake_);
    ::close(epoll_);
  }
  epoll_poller(const epoll_poller&) = delete;
  epoll_poller& operator=(const epoll_poller&) = delete;

  result<> add(int fd, std::uint64_t token) noexcept override {
    epoll_event interest{};
    interest.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    interest.data.u64 = token;
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &interest) != 0)
      return fail(error::from_errno(errno));
    return {};
  }

  void remove(int fd) noexcept override {
    epoll_event unused{};
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, &unused);
  }

  std::size_t wait(event* events, std::size_t room, clock::time_point until) noexcept override {
    std::array<epoll_event, batch_max> ready;
    const int count = wait_kernel(ready.data(), static_cast<int>(std::min(room, batch_max)), until);
    std::size_t used = 0;
    for (int i = 0; i < count; ++i) {
      const epoll_event& found = ready[static_cast<std::size_t>(i)];
      if (found.data.u64 == wake_token) {
        // Only the blocking waiter is meant; a look in passing leaves the wake-up to it (I1).
        if (until > clock::time_point::min()) drain_wake();
        continue;
      }
      const bool broken = (found.events & (EPOLLERR | EPOLLHUP)) != 0;
      events[used++] = {.token = found.data.u64,
                        .readable = broken || (found.events & (EPOLLIN | EPOLLRDHUP)) != 0,
                        .writable = broken || (found.events & EPOLLOUT) != 0,
                        .ended = (found.events & (EPOLLRDHUP | EPOLLHUP)) != 0};
    }
    return used;
  }

  void wake() noexcept override {
    const detail::race_ignore own;  // The tool takes the descriptor's making for a write.
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_, &one, sizeof one);
  }

 private:
  int wait_kernel(epoll_event* ready, int room, clock::time_point until) noexcept {
    if (until == clock::time_point::min()) return ::epoll_wait(epoll_, ready, room, 0);
    if (until == no_deadline) return ::epoll_wait(epoll_, ready, room, -1);
    const auto left = std::max(until - clock::now(), clock::duration::zero());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    timespec limit{};
    limit.tv_sec = seconds.count();
    limit.tv_nsec = (left - seconds).count();
    // order: relaxed; a hint only, each thread finds out for itself if need be.
    if (!lacks_pwait2_.load(detail::memory_order_relaxed)) {
      const auto count = ::syscall(SYS_epoll_pwait2, epoll_, ready, room, &limit, nullptr, 0);
      // Sandboxes answer EPERM to what they do not know; to wait would then be to spin.
      if (count >= 0 || errno == EINTR) return static_cast<int>(count);
      lacks_pwait2_.store(true, detail::memory_order_relaxed);
    }
    // Before Linux 5.11 only whole milliseconds; round up, since waking early would spin.
    const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(
        std::min<clock::duration>(left, std::chrono::hours{1}));
    return ::epoll_wait(epoll_, ready, room, static_cast<int>(milliseconds.count()));
  }

  void drain_wake() noexcept {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto got = ::read(wake_, &count, sizeof count);
  }

  int epoll_ = -1;
  int wake_ = -1;
  detail::atomic<bool> lacks_pwait2_{false};
};

}  // namespace

std::unique_ptr<poller> make_epoll_poller() { return std::make_unique<epoll_poller>(); }

}  // namespace exeunt::poll
