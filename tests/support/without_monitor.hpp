// SPDX-License-Identifier: Apache-2.0
// A runtime without a monitor, for tests in which a fiber has to keep the others from running.

#pragma once

#include <chrono>

#include <exeunt/base/clock.hpp>

#include "sched/seam.hpp"

namespace exeunt::test {

/// runtime_options::seam for it: a runtime with a clock of its own is left alone.
class without_monitor {
 public:
  detail::seam* seam() noexcept { return &parts_; }

 private:
  struct plain_clock final : detail::clock_source {
    clock::time_point now() noexcept override {
      return clock::time_point{std::chrono::steady_clock::now().time_since_epoch()};
    }
  };
  plain_clock time_;
  detail::seam parts_{.clock = &time_};
};

}  // namespace exeunt::test
