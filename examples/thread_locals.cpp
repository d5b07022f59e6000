// SPDX-License-Identifier: Apache-2.0
// What a thread keeps is not the fiber's: a fiber may wait on one thread and go on on another.
//
// Try:  build/release/examples/thread_locals

#include <fcntl.h>
#include <unistd.h>
#include <atomic>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <mutex>
#include <string>

#include <exeunt/exeunt.hpp>

namespace ex = exeunt;

namespace {

// [accessor]
/// Room of this thread to format text in. Ask again after whatever may wait.
[[gnu::noinline]] std::string& scratch() {
  thread_local std::string of_this_thread;
  std::string* here = &of_this_thread;
  asm volatile("" : "+r"(here) : : "memory");  // The compiler may not keep an earlier answer.
  return *here;
}

std::string label(int number) {
  std::string& text = scratch();  // Nothing waits between here and the return.
  text.assign("job ").append(std::to_string(number));
  return text;
}
// [accessor]

// [errno]
/// Returns: 0, or why `path` cannot be opened.
[[gnu::noinline]] int open_error(const char* path) {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;  // On the line after the call, before anything that may wait.
  ::close(fd);
  return 0;
}
// [errno]

// [fiber_local]
/// The request that a fiber works on: each has its own, as empty as this at first.
struct request_info {
  int number = 0;
  std::string user = "nobody";
};
constinit ex::fiber_local<request_info> request;

std::string line(const char* text) {
  return "request " + std::to_string(request->number) + " of " + request->user + ": " + text;
}
// [fiber_local]

// [on_switch]
/// A thread's locale, which newlocale() and uselocale() set, goes with the fiber that set it. A
/// swap puts it into the thread and takes it out again.
void swap_locale(void* state) noexcept {
  auto& kept = *static_cast<locale_t*>(state);  // Null when a fiber begins: the program's locale.
  kept = ::uselocale(kept == locale_t{} ? LC_GLOBAL_LOCALE : kept);
}

ex::runtime_options with_locales() {
  return {.signal_dumps = true, .on_switch = {{.enter = swap_locale, .leave = swap_locale}}};
}
// [on_switch]

/// Each fiber sets a locale of its own and waits; it is still there when the fiber goes on.
bool locales_stay() {
  std::atomic<int> right{0};
  ex::wait_group all;
  for (int i = 0; i < 10; ++i) {
    all.go([&] {
      const locale_t own = ::newlocale(LC_ALL_MASK, "C", locale_t{});
      ::uselocale(own);
      ex::yield();
      if (::uselocale(locale_t{}) == own) ++right;
      ::uselocale(LC_GLOBAL_LOCALE);
      ::freelocale(own);
    });
  }
  all.wait();
  return right == 10;
}

ex::result<> tour() {
  constexpr int jobs = 100;
  int wrong = 0;
  ex::mutex guard;
  ex::wait_group all;
  for (int number = 0; number < jobs; ++number) {
    all.go([&, number] {
      const std::string mine = label(number);
      request->number = number;
      ex::yield();  // Whoever runs meanwhile uses the same room.
      const int why = open_error("/nowhere/at/all");
      const ex::result<> failed = ex::fail(ex::error::from_errno(why));
      ex::yield();
      const bool good = mine == "job " + std::to_string(number) &&
                        line("ok") == "request " + std::to_string(number) + " of nobody: ok" &&
                        failed.error().is(std::errc::no_such_file_or_directory);
      const std::lock_guard held{guard};
      if (!good) ++wrong;
    });
  }
  all.wait();
  std::printf("%d of %d jobs found something that was not theirs\n", wrong, jobs);
  if (!locales_stay()) ++wrong;
  if (wrong != 0) return ex::fail(ex::errc::malformed, "not as expected");
  return {};
}

}  // namespace

int main() { return ex::run(tour, with_locales()); }
