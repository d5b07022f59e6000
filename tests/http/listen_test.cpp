// SPDX-License-Identifier: Apache-2.0
// Binding by a name that takes its time.
//
// This executable has a getaddrinfo() of its own, which answers when it is told to.
#include <exeunt/http/server.hpp>

#include <gtest/gtest.h>

#include <netdb.h>
#include <atomic>
#include <utility>

#include <exeunt/sched/go.hpp>

#include "support/on_workers.hpp"
#include "support/semaphore.hpp"

namespace {
std::atomic<int> look_ups = 0;
std::atomic<bool> may_answer = false;
}  // namespace

extern "C" int getaddrinfo(const char*, const char*, const addrinfo*, addrinfo**) {
  ++look_ups;
  may_answer.wait(false);
  return EAI_NONAME;
}

namespace exeunt::http {
namespace {

using namespace std::chrono_literals;

class listen_test : public test::on_workers {
 protected:
  void SetUp() override {
    look_ups = 0;
    may_answer = false;
  }
  void TearDown() override {
    may_answer = true;
    may_answer.notify_all();
  }
  static config slow() {
    return {.address = "slow.invalid:0",
            .handler = [](request&, response&) {},
            .log = [](std::string_view) {}};
  }
};
EXEUNT_ON_WORKERS(listen_test);

TEST_P(listen_test, is_ended_by_close_which_does_not_wait_for_it) {
  run([] {
    server binds{slow()};
    test::semaphore over;
    go([&] {
      EXPECT_TRUE(binds.listen().error().is(errc::closed));
      over.post();
    });
    while (look_ups == 0) yield();
    EXPECT_EQ(binds.address(), net::address{});
    binds.close();
    over.wait();
    EXPECT_TRUE(binds.listen().error().is(errc::closed));
  });
}

TEST_P(listen_test, is_ended_by_its_context) {
  run([] {
    server binds{slow()};
    EXPECT_TRUE(
        binds.listen(with_timeout(context::background(), 1ms)).error().is(errc::deadline_exceeded));
    const int before = look_ups;  // The first one may not have begun in time.
    auto [ctx, cancel] = with_cancel(context::background());
    test::semaphore over;
    go([&] {
      EXPECT_TRUE(binds.serve(ctx).error().is(errc::canceled))
          << "its own context is the look-up's";
      over.post();
    });
    while (look_ups == before) yield();
    cancel();
    over.wait();
  });
}

}  // namespace
}  // namespace exeunt::http
