// SPDX-License-Identifier: Apache-2.0
// Runs a body in a process of its own: a fresh start of this test's program, told by a variable of
// the environment which body to run. A fork without exec would have no runtime.

#pragma once

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace exeunt::test {

/// A child of this process, whose output is read here.
class child {
 public:
  /// Starts this program again to run only the test of this name, which calls inside_child().
  explicit child(std::string_view body) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const std::string filter =
        std::string{"--gtest_filter="} +
        ::testing::UnitTest::GetInstance()->current_test_info()->test_suite_name() + "." +
        ::testing::UnitTest::GetInstance()->current_test_info()->name();
    // Another CPU's program is started by a script (cmake/room.cmake).
    const char* const script = std::getenv("EXEUNT_TEST_PROGRAM");
    const char* const program = script == nullptr ? "/proc/self/exe" : script;
    ::setenv(variable, std::string{body}.c_str(), 1);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::dup2(ends[1], STDERR_FILENO);
      ::execl(program, program, filter.c_str(), "--gtest_brief=1", nullptr);
      ::_exit(127);
    }
    ::unsetenv(variable);
    ::close(ends[1]);
    output_ = ends[0];
  }
  ~child() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(output_);
  }
  child(const child&) = delete;
  child& operator=(const child&) = delete;

  /// Which body this process is to run, or empty in the parent.
  static std::string_view body() {
    const char* const name = std::getenv(variable);
    return name == nullptr ? std::string_view{} : std::string_view{name};
  }

  /// Reads until `text` has come. Returns: false if the output ends before.
  bool await(std::string_view text) {
    while (text_.find(text) == std::string::npos) {
      if (!read_some()) return false;
    }
    return true;
  }
  void send(int number) const { EXPECT_EQ(::kill(pid_, number), 0); }
  [[nodiscard]] const std::string& output() const { return text_; }

  /// Reads to the end and waits. Returns: the exit status, or 1000 + the signal that ended it.
  int finish() {
    while (read_some()) {
    }
    int status = 0;
    EXPECT_EQ(::waitpid(std::exchange(pid_, -1), &status, 0) > 0, true);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }

 private:
  static constexpr const char* variable = "EXEUNT_TEST_CHILD";

  bool read_some() {
    char bytes[4096];
    while (true) {
      const ssize_t count = ::read(output_, bytes, sizeof bytes);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return false;
      text_.append(bytes, static_cast<std::size_t>(count));
      return true;
    }
  }

  pid_t pid_ = -1;
  int output_ = -1;
  std::string text_;
};

/// For the child: one line to the parent, at once.
inline void say(std::string_view line) {
  const std::string text = std::string{line} + "\n";
  EXPECT_EQ(::write(STDOUT_FILENO, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

}  // namespace exeunt::test
