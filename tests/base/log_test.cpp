// SPDX-License-Identifier: Apache-2.0

#include <exeunt/base/log.hpp>

#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace exeunt {
namespace {

// The sink's contract is never to run concurrently with itself, so nothing guards this.
std::vector<std::string> records;

class base_log : public ::testing::Test {
 protected:
  void SetUp() override {
    records.clear();
    set_log_sink([](std::string_view text) noexcept { records.emplace_back(text); });
  }
  void TearDown() override { set_log_sink(nullptr); }
};

TEST_F(base_log, gives_a_record_its_line_end) {
  log_line("stopping");
  log_line("stopped\n");
  EXPECT_EQ(records, (std::vector<std::string>{"stopping\n", "stopped\n"}));
}

TEST_F(base_log, keeps_several_lines_in_one_record) {
  log_line("panic: broken\n  in fiber 1");
  EXPECT_EQ(records, (std::vector<std::string>{"panic: broken\n  in fiber 1\n"}));
}

TEST_F(base_log, makes_an_empty_text_an_empty_line) {
  log_line("");
  EXPECT_EQ(records, (std::vector<std::string>{"\n"}));
}

// I1 of src/base/log.cpp, by sums: a lost or mixed record would miss in its thread's count.
TEST_F(base_log, records_of_many_threads_arrive_whole_and_alone) {
  constexpr int thread_count = 4;
  constexpr int records_each = 500;
  std::vector<std::thread> threads;
  for (int t = 0; t < thread_count; ++t) {
    threads.emplace_back([t] {
      const std::string text(40, static_cast<char>('a' + t));
      for (int i = 0; i < records_each; ++i) log_line(text);
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_EQ(records.size(), std::size_t{thread_count} * records_each);
  for (int t = 0; t < thread_count; ++t) {
    const std::string expected = std::string(40, static_cast<char>('a' + t)) + "\n";
    EXPECT_EQ(std::count(records.begin(), records.end(), expected), records_each);
  }
}

// The letter of a thread's state as the kernel shows it: R runs, S sleeps.
char state_of(int thread) {
  std::ifstream file{"/proc/self/task/" + std::to_string(thread) + "/stat"};
  std::string text;
  std::getline(file, text);
  return text.at(text.rfind(')') + 2);
}

// Goal:   who logs while a sink takes its time sleeps, and leaves the processor to others.
// Method: the sink ends only when the kernel has seen the second thread asleep; one that spins
//         never is.
TEST(base_log_lock, is_slept_for_while_a_sink_blocks) {
  static std::atomic<int> second{0};
  static std::atomic<bool> sink_entered{false};
  set_log_sink([](std::string_view) noexcept {
    if (sink_entered.exchange(true)) return;
    while (second == 0 || state_of(second) != 'S') std::this_thread::yield();
  });
  std::thread first{[] { log_line("first"); }};
  while (!sink_entered) std::this_thread::yield();
  std::thread waits{[] {
    second = ::gettid();
    log_line("second");
  }};
  first.join();
  waits.join();
  set_log_sink(nullptr);
}

// A fork may find the lock held by a thread that the child does not have.
TEST(base_log_lock, is_free_in_a_forked_child) {
  static std::atomic<bool> sink_entered{false};
  static std::atomic<bool> sink_may_end{false};
  static std::atomic<int> calls{0};
  set_log_sink([](std::string_view) noexcept {
    ++calls;
    if (sink_entered.exchange(true)) return;
    while (!sink_may_end) std::this_thread::yield();
  });
  std::thread first{[] { log_line("first"); }};
  while (!sink_entered) std::this_thread::yield();
  const pid_t forked = ::fork();
  if (forked == 0) {
    log_line("from the child");
    ::_exit(calls == 2 ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(forked, &status, 0), forked);
  EXPECT_EQ(status, 0);
  sink_may_end = true;
  first.join();
  set_log_sink(nullptr);
}

TEST(base_log_stderr, is_where_records_go_without_a_sink) {
  set_log_sink(nullptr);
  ::testing::internal::CaptureStderr();
  log_line("to stderr");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "to stderr\n");
}

}  // namespace
}  // namespace exeunt
