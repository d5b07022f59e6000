// SPDX-License-Identifier: Apache-2.0
// Reading the limits of control groups, version 2 and 1.
//
// A process is in a group whose path /proc/self/cgroup tells, and is held by the limits of all
// groups from there up to the root. A service manager sets one some levels up; in a container the
// group often is the root of what is mounted, and its path may name a place outside: what cannot be
// read is left out.
// Tests: tests/sched/cpu_limit_test.cpp.

#include "sched/cpu_limit.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>

namespace exeunt::sched {

namespace {

constexpr double unlimited = std::numeric_limits<double>::infinity();

double quotient(double quota, double period) {
  return quota > 0 && period > 0 ? quota / period : unlimited;
}

// "max 100000" or "150000 100000".
double limit_v2(const std::filesystem::path& group) {
  std::string quota;
  double period = 0;
  std::ifstream file{group / "cpu.max"};
  if (!(file >> quota >> period) || quota == "max") return unlimited;
  return quotient(std::strtod(quota.c_str(), nullptr), period);
}

// The quota is -1 where there is none.
double limit_v1(const std::filesystem::path& group) {
  double quota = 0;
  double period = 0;
  std::ifstream{group / "cpu.cfs_quota_us"} >> quota;
  std::ifstream{group / "cpu.cfs_period_us"} >> period;
  return quotient(quota, period);
}

// From `group`, a path below `mount`, up to `mount` itself.
double least_upwards(const std::filesystem::path& mount, std::string_view group,
                     double (*limit)(const std::filesystem::path&)) {
  double least = unlimited;
  std::filesystem::path at = std::filesystem::path{group}.relative_path().lexically_normal();
  if (!at.empty() && *at.begin() == "..") at.clear();  // Outside of what is mounted.
  for (;; at = at.parent_path()) {
    least = std::min(least, limit(mount / at));
    if (at.empty()) return least;
  }
}

// Whether the comma-separated `controllers` name that of the CPU.
bool has_cpu(std::string_view controllers) {
  const std::string list = "," + std::string{controllers} + ",";
  return list.find(",cpu,") != std::string::npos;
}

}  // namespace

unsigned cgroup_cpu_limit(const std::filesystem::path& root) {
  const std::filesystem::path mounts = root / "sys/fs/cgroup";
  // The roots are looked at also if /proc tells nothing.
  double least = std::min(limit_v2(mounts), limit_v1(mounts / "cpu"));
  std::ifstream groups{root / "proc/self/cgroup"};
  for (std::string line; std::getline(groups, line);) {  // "0::/path", or "4:cpu,cpuacct:/path"
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string_view controllers{line.data() + first + 1, second - first - 1};
    const std::string_view group{line.data() + second + 1, line.size() - second - 1};
    if (controllers.empty()) {
      least = std::min(least, least_upwards(mounts, group, &limit_v2));
    } else if (has_cpu(controllers)) {
      least = std::min(least, least_upwards(mounts / "cpu", group, &limit_v1));
    }
  }
  if (!(least < static_cast<double>(std::numeric_limits<int>::max()))) return ~0U;
  return std::max(1U, static_cast<unsigned>(std::ceil(least)));
}

}  // namespace exeunt::sched
