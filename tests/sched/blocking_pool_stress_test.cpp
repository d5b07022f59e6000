// SPDX-License-Identifier: Apache-2.0
// The side pool under many posters at once, with refused threads, withdrawals and short lives.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <semaphore>
#include <thread>
#include <vector>

#include "sched/blocking_pool.hpp"
#include "sched/thread_mask.hpp"

namespace exeunt::sched {
namespace {

struct totals {
  std::atomic<int> run{0};
  std::atomic<int> refused{0};
  std::atomic<int> withdrawn{0};
  std::atomic<int> inside{0};
  std::atomic<int> most_inside{0};
};

class counted_job final : public detail::blocking_job {
 public:
  explicit counted_job(totals& sums) : sums_{sums} {}

  void run() noexcept override {
    const int now = ++sums_.inside;
    int seen = sums_.most_inside;
    while (seen < now && !sums_.most_inside.compare_exchange_weak(seen, now)) {
    }
    if (++touched % 16 == 0) std::this_thread::yield();
    --sums_.inside;
    ++sums_.run;
  }
  void finish() noexcept override { through_.release(); }
  void refuse(const error&) noexcept override {
    ++sums_.refused;
    through_.release();
  }
  void wait() { through_.acquire(); }

  int touched = 0;  // Not atomic: only one thread at a time has the job.

 private:
  totals& sums_;
  std::binary_semaphore through_{0};
};

std::atomic<std::uint32_t> starts;

// Goal:   each job is run, refused or withdrawn, once; the bound holds; nobody is forgotten.
// Method: sums, and that it ends at all. Every third start fails; threads live for microseconds,
//         so that they end while others count on them. Some posters take back what they posted.
void storm(unsigned threads_max, clock::duration keep_alive, bool starts_fail) {
  constexpr int posters = 4;
#if EXEUNT_TSAN || EXEUNT_ASAN
  constexpr int rounds = 300;
#else
  constexpr int rounds = 2'000;
#endif
  constexpr std::size_t batch = 5;
  totals sums;
  blocking_limits limits{.threads_max = threads_max, .keep_alive = keep_alive};
  if (starts_fail) limits.refuse_thread = []() noexcept { return ++starts % 3 == 0 ? EAGAIN : 0; };
  blocking_pool pool{mask_of_users(), limits};
  std::vector<std::thread> threads;
  for (int p = 0; p < posters; ++p) {
    threads.emplace_back([&, p] {
      for (int i = 0; i < rounds; ++i) {
        std::array<std::unique_ptr<counted_job>, batch> jobs;
        for (auto& one : jobs) one = std::make_unique<counted_job>(sums);
        for (auto& one : jobs) {
          one->touched = i;
          pool.post(*one);
        }
        for (std::size_t k = jobs.size(); k-- > 0;) {
          if ((i + p) % 3 == 0 && blocking_pool::withdraw(*jobs[k])) {
            ++sums.withdrawn;
          } else {
            jobs[k]->wait();
          }
        }
      }
    });
  }
  for (std::thread& one : threads) one.join();
  EXPECT_EQ(sums.run + sums.refused + sums.withdrawn, posters * rounds * static_cast<int>(batch));
  EXPECT_LE(sums.most_inside, static_cast<int>(threads_max));
  if (!starts_fail) {
    EXPECT_EQ(sums.refused, 0);
  }
  EXPECT_EQ(pool.stats().queued, 0U);
  EXPECT_EQ(pool.stats().completed, static_cast<std::uint64_t>(sums.run));
  pool.wait_until_quiet(clock::time_point::max());
  pool.close();
  while (pool.stats().threads != 0) std::this_thread::yield();
}

TEST(blocking_pool_stress, loses_nothing) { storm(3, std::chrono::hours{1}, false); }
TEST(blocking_pool_stress, loses_nothing_with_one_thread) { storm(1, std::chrono::hours{1}, true); }
TEST(blocking_pool_stress, loses_nothing_when_threads_end) {
  storm(4, std::chrono::microseconds{20}, false);
}
TEST(blocking_pool_stress, loses_nothing_when_starts_fail) {
  storm(4, std::chrono::microseconds{20}, true);
}
TEST(blocking_pool_stress, loses_nothing_when_no_thread_stays) {
  storm(2, std::chrono::nanoseconds{0}, true);
}

// A close at any time leaves nobody waiting.
TEST(blocking_pool_stress, a_close_answers_everybody) {
  for (int round = 0; round < 200; ++round) {
    totals sums;
    auto pool = std::make_unique<blocking_pool>(mask_of_users(), blocking_limits{.threads_max = 2});
    std::array<std::unique_ptr<counted_job>, 20> jobs;
    for (auto& one : jobs) one = std::make_unique<counted_job>(sums);
    std::atomic<bool> go_on{false};
    std::thread poster{[&] {
      go_on = true;
      for (auto& one : jobs) pool->post(*one);
    }};
    while (!go_on) std::this_thread::yield();
    for (int i = 0; i < round % 20; ++i) std::this_thread::yield();
    pool->close();
    poster.join();
    pool = nullptr;
    for (auto& one : jobs) one->wait();
    EXPECT_EQ(sums.run + sums.refused, 20);
  }
}

}  // namespace
}  // namespace exeunt::sched
