// SPDX-License-Identifier: Apache-2.0
// As ../ring, with 10 to 1 000 000 fibers that are all there before the clock runs: what a hop
// costs when the fiber that it wakes is in no cache.

#include <string>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

constexpr long hops = 3'000'000;

class circle {
 public:
  explicit circle(long size) : links_(static_cast<std::size_t>(size + 1)) {
    for (std::size_t i = 0; i + 1 < links_.size(); ++i) {
      members_.go([in = links_[i], out = links_[i + 1]] {
        for (const long value : in) out.send(value + 1);
        out.close();
      });
    }
  }
  ~circle() {
    links_.front().close();
    static_cast<void>(links_.back().recv());
    members_.wait();
  }
  circle(const circle&) = delete;
  circle& operator=(const circle&) = delete;

  void go_round(long times) {
    for (long i = 0; i < times; ++i) {
      links_.front().send(0);
      rivals::require(links_.back().recv() == static_cast<long>(links_.size()) - 1, "ring_crowd");
    }
  }

 private:
  std::vector<exeunt::chan<long>> links_;
  exeunt::wait_group members_;
};

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run(
      [&] {
        for (long size = 10; size <= 1'000'000; size *= 10) {
          const std::string name = "ring_crowd_" + std::to_string(size);
          if (!bench.wants(name)) continue;
          circle all{size};
          bench.per_op(name, hops, size, [&](long n) { all.go_round(n / size); });
        }
      },
      {.procs = bench.workers()});
}
