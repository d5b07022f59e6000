// SPDX-License-Identifier: Apache-2.0
#include "sched/cpu_limit.hpp"

#include <gtest/gtest.h>

#include <unistd.h>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace exeunt::sched {
namespace {

namespace fs = std::filesystem;

constexpr unsigned no_limit = ~0U;

// A directory that stands for "/".
class cpu_limit : public ::testing::Test {
 protected:
  cpu_limit() {
    std::string name = (fs::temp_directory_path() / "exeunt-cgroup-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    root = name;
  }
  ~cpu_limit() override { fs::remove_all(root); }

  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((root / path).parent_path());
    std::ofstream{root / path} << text;
  }

  fs::path root;
};

TEST_F(cpu_limit, is_none_where_nothing_can_be_read) {
  EXPECT_EQ(cgroup_cpu_limit(root), no_limit);
}

TEST_F(cpu_limit, is_none_where_it_says_max) {
  write("proc/self/cgroup", "0::/a\n");
  write("sys/fs/cgroup/a/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_cpu_limit(root), no_limit);
}

TEST_F(cpu_limit, is_that_of_the_processes_own_group) {
  write("proc/self/cgroup", "0::/system.slice/app.service\n");
  write("sys/fs/cgroup/system.slice/app.service/cpu.max", "300000 100000\n");
  EXPECT_EQ(cgroup_cpu_limit(root), 3U);
}

TEST_F(cpu_limit, is_the_least_on_the_way_up) {
  write("proc/self/cgroup", "0::/a/b/c\n");
  write("sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
  write("sys/fs/cgroup/a/b/cpu.max", "800000 100000\n");
  write("sys/fs/cgroup/a/cpu.max", "250000 100000\n");
  write("sys/fs/cgroup/a/other/cpu.max", "100000 100000\n");
  EXPECT_EQ(cgroup_cpu_limit(root), 3U) << "two and a half, rounded up";
}

TEST_F(cpu_limit, is_at_least_one_processor) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/cpu.max", "5000 100000\n");
  EXPECT_EQ(cgroup_cpu_limit(root), 1U);
}

// As seen from a container whose group is mounted as the root, but not named so.
TEST_F(cpu_limit, falls_back_to_the_root_of_what_is_mounted) {
  for (const char* const path : {"/docker/0123", "/../../init.scope", "/.."}) {
    write("proc/self/cgroup", std::string{"0::"} + path + "\n");
    write("sys/fs/cgroup/cpu.max", "200000 100000\n");
    EXPECT_EQ(cgroup_cpu_limit(root), 2U) << path;
  }
}

TEST_F(cpu_limit, is_read_from_version_one_too) {
  write("proc/self/cgroup", "5:cpuset:/x\n4:cpu,cpuacct:/a/b\n0::/\n");
  write("sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us", "100000\n");
  write("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "400000\n");
  write("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpu_limit(root), 4U);
}

TEST_F(cpu_limit, of_this_process_can_be_asked) { EXPECT_GE(cgroup_cpu_limit(), 1U); }

}  // namespace
}  // namespace exeunt::sched
