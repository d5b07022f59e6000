// SPDX-License-Identifier: Apache-2.0

#include "os/exit_report.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <semaphore>
#include <string>
#include <thread>

#include <exeunt/base/log.hpp>
#include <exeunt/os/signal.hpp>
#include <exeunt/sched/runtime.hpp>

namespace exeunt {
namespace {

using namespace std::chrono_literals;

std::string logged;
std::counting_semaphore<> records{0};

class os_exit_report : public ::testing::Test {
 protected:
  void SetUp() override {
    logged.clear();
    while (records.try_acquire()) {
    }
    set_log_sink([](std::string_view text) noexcept {
      logged += text;
      records.release();
    });
  }
  void TearDown() override { set_log_sink(nullptr); }
};

TEST_F(os_exit_report, asks_every_reporter) {
  const detail::exit_reporter first{[] { return std::string{"GET /a\n"}; }};
  auto gone = std::make_unique<detail::exit_reporter>([] { return std::string{"GET /gone\n"}; });
  const detail::exit_reporter silent{[] { return std::string{}; }};
  gone.reset();
  os::print_report("why\n", true, 10s);
  EXPECT_TRUE(logged.starts_with("why\n")) << logged;
  EXPECT_NE(logged.find("GET /a\n"), std::string::npos) << logged;
  EXPECT_EQ(logged.find("GET /gone"), std::string::npos) << logged;
}

TEST_F(os_exit_report, names_fibers_without_reporters) {
  const detail::exit_reporter reporter{[] { return std::string{"GET /a\n"}; }};
  runtime workers{{.procs = 1}};
  workers.run([] {
    std::thread printer{[] { os::print_report("dump\n", false, 10s); }};
    printer.join();
  });
  EXPECT_EQ(logged.find("GET /a"), std::string::npos) << logged;
  EXPECT_NE(logged.find("main"), std::string::npos) << logged;
}

// Goal: a reporter that never returns does not keep the process from going.
TEST_F(os_exit_report, gives_up_on_one_that_hangs) {
  const auto never = std::make_shared<std::binary_semaphore>(0);
  auto stuck = std::make_unique<detail::exit_reporter>([never] {
    never->acquire();
    return std::string{};
  });
  os::print_report("head\n", true, 1ms);
  never->release();
  stuck.reset();  // Waits for it.
  records.acquire();
  records.acquire();  // Head and fibers: the printer is done with the log, too.
}

}  // namespace
}  // namespace exeunt
