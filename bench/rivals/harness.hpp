// SPDX-License-Identifier: Apache-2.0
// What all C++ contenders share: their command line, timing, and the lines they print.
//
//   contender --workers N [--scale F] [--only NAME]
//
// A workload runs once to warm up, smaller, and then once measured. Its figures are printed as
// "name<TAB>unit<TAB>value", which bench/run reads. harness/harness.go is the same for Go.

#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace rivals {

using nanoseconds = std::chrono::duration<double, std::nano>;
using steady = std::chrono::steady_clock;

inline double ns_since(steady::time_point start) {
  return nanoseconds{steady::now() - start}.count();
}

class harness {
 public:
  harness(int argc, char** argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
      const std::string_view option = argv[i];
      if (option == "--workers") {
        workers_ = static_cast<unsigned>(std::atoi(argv[i + 1]));
      } else if (option == "--scale") {
        scale_ = std::atof(argv[i + 1]);
      } else if (option == "--only") {
        only_ = argv[i + 1];
      } else {
        std::fprintf(stderr, "no such option: %s\n", argv[i]);
        std::exit(2);
      }
    }
  }

  [[nodiscard]] unsigned workers() const { return workers_; }
  [[nodiscard]] bool wants(std::string_view name) const { return only_.empty() || only_ == name; }

  /// As many as `full` by --scale, at least 1, and a multiple of `unit`.
  [[nodiscard]] long scaled(long full, long unit = 1) const {
    const long wanted = static_cast<long>(static_cast<double>(full) * scale_);
    return std::max(wanted / unit, 1L) * unit;
  }

  /// Prints the nanoseconds of one of the operations that `work(count)` does.
  template <typename F>
  void per_op(std::string_view name, long full, long unit, F work) {
    if (!wants(name)) return;
    const long count = scaled(full, unit);
    work(std::max(count / 10 / unit, 1L) * unit);
    const auto start = steady::now();
    work(count);
    figure(name, "ns", ns_since(start) / static_cast<double>(count));
  }

  static void figure(std::string_view name, std::string_view unit, double value) {
    std::printf("%.*s\t%.*s\t%.6g\n", static_cast<int>(name.size()), name.data(),
                static_cast<int>(unit.size()), unit.data(), value);
    std::fflush(stdout);
  }

 private:
  unsigned workers_ = 1;
  double scale_ = 1;
  std::string only_;
};

/// The value at `percent` of the sorted ones.
inline double percentile(std::vector<double>& values, std::size_t percent) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, values.size() * percent / 100)];
}

/// The process's pages and page tables in memory, in bytes.
inline double resident_bytes() {
  double kib = 0;
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:") || line.starts_with("VmPTE:")) kib += std::atof(&line[6]);
  }
  return kib * 1024;
}

/// Ends a contender that computed something wrong.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "wrong result: %s\n", what);
  std::exit(1);
}

/// Runs `work` on a thread of its own, so that nobody takes the process for single-threaded: the C
/// library's locks are cheaper there.
template <typename F>
void on_thread(F work) {
  std::thread{std::move(work)}.join();
}

template <typename T>
void keep(const T& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}

}  // namespace rivals
