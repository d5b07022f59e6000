// SPDX-License-Identifier: Apache-2.0
// Calls that block a thread, moved off the workers.

#pragma once

#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include <exeunt/base/error.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/intrusive_list.hpp>

namespace exeunt::sched {
class blocking_pool;
}

namespace exeunt {

namespace detail {

/// A call for the side pool, whose members the pool calls: either run() and then finish(), on one
/// of its threads, or refuse(), on any thread. After finish() or refuse() it touches nothing here.
class blocking_job : public list_hook<struct blocking_job_tag> {
 public:
  blocking_job() noexcept = default;
  blocking_job(const blocking_job&) = delete;
  blocking_job& operator=(const blocking_job&) = delete;

  virtual void run() noexcept = 0;
  /// Wakes whoever waits for this.
  virtual void finish() noexcept = 0;
  /// It will never run: the runtime has stopped, or the system gives no thread.
  virtual void refuse(const error& why) noexcept = 0;

 protected:
  ~blocking_job() = default;

 private:
  friend class sched::blocking_pool;
  void* posted_to_ = nullptr;
};

/// Runs `body` on a thread of the side pool and parks until it is done. `body` must not throw.
EXEUNT_API void run_blocking(function_ref<void()> body);
/// Queues `job` on the side pool of the current runtime and returns at once.
EXEUNT_API void post_blocking(blocking_job& job);
/// Takes a job that was posted back. Returns: false if it is too late for that.
[[nodiscard]] EXEUNT_API bool withdraw_blocking(blocking_job& job) noexcept;

}  // namespace detail

/// Runs `f` on a thread where blocking hurts nobody, and waits for it: for file I/O, getaddrinfo,
/// a library's own locks.
///
/// The threads are the runtime's own. One is started only when none is idle, up to
/// runtime_options::blocking_threads_max; beyond that, calls wait their turn in order. One that
/// has had nothing to do for runtime_options::blocking_keep_alive ends. So that calls do not wait
/// for each other for good, none may need another one to go on, unless the bound leaves room for
/// both.
///
/// Returns: what f returns.
/// Blocks:  the calling fiber until f is done; the workers go on. From a plain thread f is called
///          directly. The overload with a context is in context/blocking.hpp.
/// Throws:  what f throws. std::system_error, and f is not called, if the system refuses a thread
///          and there is none to wait for, or if the runtime is being stopped.
/// Ordering: the call happens before f, and f before its return.
/// Cost:    two thread wake-ups, some 40 µs; no allocation.
template <typename F>
  requires std::is_invocable_v<F&>
std::invoke_result_t<F&> blocking(F&& f) {
  using value = std::invoke_result_t<F&>;
  std::exception_ptr failure;
  if constexpr (std::is_void_v<value>) {
    detail::run_blocking([&]() noexcept {
      try {
        f();
      } catch (...) {
        failure = std::current_exception();
      }
    });
    if (failure) std::rethrow_exception(failure);
  } else {
    std::optional<value> returned;
    detail::run_blocking([&]() noexcept {
      try {
        returned.emplace(f());
      } catch (...) {
        failure = std::current_exception();
      }
    });
    if (failure) std::rethrow_exception(failure);
    return std::move(*returned);
  }
}

}  // namespace exeunt
