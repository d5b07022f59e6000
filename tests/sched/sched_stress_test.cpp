// SPDX-License-Identifier: Apache-2.0
// Real threads against the run queue, the idle protocol and park: sums, and that it ends at all.

#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <exeunt/base/random.hpp>
#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/runtime.hpp>

#include "sched/fiber.hpp"
#include "sched/seam.hpp"
#include "support/on_workers.hpp"
#include "support/semaphore.hpp"

namespace exeunt {
namespace {

using test::semaphore;

class sched_stress : public test::on_workers {};
EXEUNT_ON_WORKERS(sched_stress);

// Goal:   no wake-up is lost between workers that keep falling asleep.
// Method: pairs that hand over to one another, with sleeps and plain threads mixed in; a lost
//         wake-up shows as a test that does not end.
TEST_P(sched_stress, pairs_that_hand_over_always_go_on) {
  run([] {
    constexpr int pairs = 8;
    constexpr int rounds = 2'000;
    semaphore done;
    std::vector<std::unique_ptr<semaphore>> gates;
    for (int i = 0; i < pairs * 2; ++i) gates.push_back(std::make_unique<semaphore>());
    for (int p = 0; p < pairs; ++p) {
      semaphore& left = *gates[static_cast<std::size_t>(2 * p)];
      semaphore& right = *gates[static_cast<std::size_t>(2 * p + 1)];
      const auto body = [&done](semaphore& mine, semaphore& theirs) {
        for (int i = 0; i < rounds; ++i) {
          theirs.post();
          mine.wait();
          if (i % 500 == 0) sleep(std::chrono::microseconds{50});
        }
        done.post();
      };
      go([&, body] { body(left, right); });
      go([&, body] { body(right, left); });
    }
    std::thread outsider{[&] {
      for (int p = 0; p < 2 * pairs; ++p) done.wait();
      done.post();
    }};
    blocking([&] { outsider.join(); });
    done.wait();
  });
}

// Goal:   the protocols hold for any number of workers, also while it changes.
// Method: runtimes of random sizes, one after the other, in which pairs hand over, fibers start
//         others, sleep and yield, and the number of workers is set anew all the time. The seed is
//         told if it fails.
TEST(sched_stress_any, number_of_workers) {
  const std::uint64_t seed = detail::random_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  detail::random_source random{seed};
  constexpr unsigned procs_max = 9;
  for (int world = 0; world < 20; ++world) {
    runtime workers{{.procs = 1 + random.below(procs_max)}};
    constexpr int pairs = 6;
    constexpr int rounds = 200;
    workers.run([&] {
      semaphore done;
      std::vector<std::unique_ptr<semaphore>> gates;
      for (int i = 0; i < 2 * pairs; ++i) gates.push_back(std::make_unique<semaphore>());
      for (std::size_t p = 0; p < pairs; ++p) {
        const auto body = [&done](semaphore& mine, semaphore& theirs, unsigned chance) {
          detail::random_source own{chance};
          for (int i = 0; i < rounds; ++i) {
            theirs.post();
            mine.wait();
            const std::uint32_t turn = own.below(16);
            if (turn == 0) sleep(std::chrono::microseconds{own.below(100)});
            if (turn == 1) yield();
            if (turn == 2) {
              semaphore ended;
              go([&ended] { ended.post(); });
              ended.wait();
            }
          }
          done.post();
        };
        semaphore& left = *gates[2 * p];
        semaphore& right = *gates[2 * p + 1];
        go([&, body, chance = random.below(UINT32_MAX)] { body(left, right, chance); });
        go([&, body, chance = random.below(UINT32_MAX)] { body(right, left, chance); });
      }
      for (int i = 0; i < 2 * pairs; ++i) {
        workers.set_procs(1 + random.below(procs_max));
        done.wait();
      }
    });
    test::stop_and_expect_none_left(workers);
  }
}

// Goal:   what waits behind a fiber that blocks its thread goes to a spare one, and these end when
//         the others are back, whatever the number of workers.
// Method: pairs of which one blocks its thread at random until the other has let it go on; others
//         hand over all the time. A pair's two ends draw from one seed, so that they agree when.
//         Not under forced migration, which hands a fiber to one certain worker, blocked or not.
TEST(sched_stress_any, fibers_block_their_threads) {
  const std::uint64_t seed = detail::random_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  detail::random_source random{seed};
  struct pair {
    pair() { EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0); }
    ~pair() {
      for (const int fd : ends) ::close(fd);
    }
    pair(const pair&) = delete;
    pair& operator=(const pair&) = delete;

    semaphore there;
    semaphore back;
    std::array<int, 2> ends{};
    int handed_over = 0;
    int blocked = 0;
    int let_go_on = 0;
  };
  for (int world = 0; world < 10; ++world) {
    constexpr int pairs = 8;
    constexpr int rounds = 300;
    const unsigned procs = 1 + random.below(9);
    SCOPED_TRACE("workers " + std::to_string(procs));
    std::array<pair, pairs> all;
    detail::seam parts{.migrate_never = true};
    runtime workers{{.procs = procs, .seam = &parts}};
    workers.run([&] {
      semaphore done;
      for (std::size_t p = 0; p < pairs; ++p) {
        pair& both = all[p];
        // Half of them never block.
        const std::uint32_t of = p % 2 == 0 ? 32 : 0;
        const std::uint64_t chance = random.below(UINT32_MAX);
        go([&both, &done, of, chance] {
          detail::random_source own{chance};
          for (int i = 0; i < rounds; ++i) {
            both.there.post();
            if (of != 0 && own.below(of) == 0) {
              char byte = 0;
              both.blocked += ::read(both.ends[0], &byte, 1) == 1 && byte == 'x' ? 1 : 0;
            }
            both.back.wait();
          }
          done.post();
        });
        go([&both, &done, of, chance] {
          detail::random_source own{chance};
          for (int i = 0; i < rounds; ++i) {
            both.there.wait();
            if (of != 0 && own.below(of) == 0) {
              yield();
              both.let_go_on += ::write(both.ends[1], "x", 1) == 1 ? 1 : 0;
            }
            ++both.handed_over;
            both.back.post();
          }
          done.post();
        });
      }
      for (int i = 0; i < 2 * pairs; ++i) done.wait();
    });
    for (const pair& both : all) {
      EXPECT_EQ(both.handed_over, rounds);
      EXPECT_EQ(both.blocked, both.let_go_on);
    }
    while (workers.stats().threads != procs) std::this_thread::yield();
    test::stop_and_expect_none_left(workers);
  }
}

TEST_P(sched_stress, many_short_sleeps_all_end) {
  run([] {
    constexpr int count = 1'000;
    semaphore done;
    for (int i = 0; i < count; ++i) {
      go([&done, i] {
        sleep(std::chrono::microseconds{(i * 37) % 2'000});
        done.post();
      });
    }
    for (int i = 0; i < count; ++i) done.wait();
  });
}

#ifndef EXEUNT_FORCE_MIGRATION  // Which hands a fiber to one certain worker, busy or not.
// Goal:   a fiber that was made the next to run is not stuck behind a waker that never parks.
// Method: the waker keeps its worker until the other fiber has run, which takes a thief; it does so
//         again just when the thieves give up searching.
TEST(sched_stress_next, what_is_next_is_stolen_from_a_worker_that_stays_busy) {
  for (const unsigned procs : {2U, 3U}) {
    test::run_on(procs, [] {
      constexpr int rounds = 5'000;
      semaphore gate;
      semaphore done;
      std::atomic<int> seen{0};
      go([&] {
        for (int i = 0; i < rounds; ++i) {
          gate.wait();
          ++seen;
        }
        done.post();
      });
      for (int i = 0; i < rounds; ++i) {
        gate.post();
        while (seen <= i) std::this_thread::yield();
      }
      done.wait();
    });
  }
}
#endif

TEST_P(sched_stress, blocking_calls_do_not_block_the_workers) {
  run([] {
    constexpr int count = 16;
    semaphore done;
    std::atomic<int> inside{0};
    for (int i = 0; i < count; ++i) {
      go([&] {
        // Ends only when all are inside at once: more than there are workers.
        const int seen = blocking([&] {
          ++inside;
          while (inside < count) std::this_thread::yield();
          return inside.load();
        });
        EXPECT_GE(seen, count);
        done.post();
      });
    }
    for (int i = 0; i < count; ++i) done.wait();
  });
}

struct thread_record {
  bool is_monitor = false;
  bool sleeps = true;
  long switches = 0;
};

// What the kernel says of each thread of the runtime, by its number.
std::map<std::string, thread_record> workers_threads() {
  std::map<std::string, thread_record> found;
  for (const auto& task : std::filesystem::directory_iterator{"/proc/self/task"}) {
    std::ifstream status{task.path() / "status"};
    thread_record record;
    bool is_worker = false;
    for (std::string line; std::getline(status, line);) {
      const std::string value = line.substr(std::min(line.size(), line.find(':') + 2));
      if (line.starts_with("Name:")) is_worker = value.starts_with("exeunt-");
      if (line.starts_with("Name:")) record.is_monitor = value == "exeunt-monitor";
      if (line.starts_with("State:")) record.sleeps = value.starts_with("S");
      if (line.find("ctxt_switches") != std::string::npos) {
        record.switches += std::strtol(value.c_str(), nullptr, 10);
      }
    }
    if (is_worker) found[task.path().filename()] = record;
  }
  return found;
}

// Goal:   an idle runtime sleeps: no thread is switched to more than 5 times in 10 s, but for the
//         monitor, which looks for 50 ms whether it stays so.
// Method: the kernel's own counts, from the moment when all workers are asleep. They are each
//         thread's own, whatever else runs on the machine.
TEST(idle_stress, an_idle_runtime_sleeps) {
  runtime workers{{.procs = 4}};
  semaphore never;
  semaphore parked;
  workers.run([&] {
    for (int i = 0; i < 10; ++i) {
      go([&] {
        parked.post();
        never.wait();
      });
    }
    for (int i = 0; i < 10; ++i) parked.wait();
  });
  auto before = workers_threads();
  const auto sleeps = [](const auto& thread) { return thread.second.sleeps; };
  while (!std::ranges::all_of(before, sleeps)) {
    std::this_thread::yield();
    before = workers_threads();
  }
  std::this_thread::sleep_for(std::chrono::seconds{10});
  const auto after = workers_threads();
  EXPECT_EQ(after.size(), 5U);
  for (const auto& [thread, record] : after) {
    EXPECT_LE(record.switches - before[thread].switches, record.is_monitor ? 20 : 5)
        << "of thread " << thread;
  }
  for (int i = 0; i < 10; ++i) never.post();
  EXPECT_EQ(workers.stop(), 0U);
}

}  // namespace
}  // namespace exeunt
