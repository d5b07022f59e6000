// SPDX-License-Identifier: Apache-2.0
// How many processors the control groups let this process use.

#pragma once

#include <filesystem>

namespace exeunt::sched {

/// The least CPU limit of the process's control group and of those above it, in whole processors,
/// rounded up. `root` stands for "/": proc/self/cgroup and sys/fs/cgroup are read below it.
/// Returns: at least 1; ~0U if there is no limit or none can be read.
[[nodiscard]] unsigned cgroup_cpu_limit(const std::filesystem::path& root = "/");

}  // namespace exeunt::sched
