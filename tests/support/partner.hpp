// SPDX-License-Identifier: Apache-2.0
// A second fiber to hand over to.

#pragma once

#include <exeunt/sched/go.hpp>

#include "support/semaphore.hpp"

namespace exeunt::test {

/// A fiber that answers so many calls. The destructor waits for its end, so all are to be made.
class partner {
 public:
  explicit partner(int calls) {
    go([this, calls] {
      for (int i = 0; i < calls; ++i) {
        called_.wait();
        answered_.post();
      }
      ended_.post();
    });
  }
  ~partner() { ended_.wait(); }
  partner(const partner&) = delete;
  partner& operator=(const partner&) = delete;

  /// Two hand-overs: to the partner and back.
  void call() {
    called_.post();
    answered_.wait();
  }

 private:
  semaphore called_;
  semaphore answered_;
  semaphore ended_;
};

}  // namespace exeunt::test
