// SPDX-License-Identifier: Apache-2.0

#include <exeunt/base/log.hpp>

#include <algorithm>
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

TEST(base_log_stderr, is_where_records_go_without_a_sink) {
  set_log_sink(nullptr);
  ::testing::internal::CaptureStderr();
  log_line("to stderr");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "to stderr\n");
}

}  // namespace
}  // namespace exeunt
