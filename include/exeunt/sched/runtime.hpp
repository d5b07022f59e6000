// SPDX-License-Identifier: Apache-2.0
// The runtime: worker threads that run fibers, sleep until there is work, and stop cleanly.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/sched/go.hpp>

namespace exeunt {

/// An exception that left a fiber which nobody waits for, or which nobody asked for its failure.
struct panic_report {
  error what;                       ///< message, type, stack of the throw
  std::uint64_t fiber = 0;          ///< this_fiber::id() of the fiber that failed
  std::string name;                 ///< its name, or empty
  std::source_location started_at;  ///< the line that started it
};

/// What to do with a panic_report.
enum class on_panic : std::uint8_t {
  report,     ///< log it, count it, carry on
  terminate,  ///< log it, then std::terminate()
};

/// Moves what a library keeps in thread-locals along with the fibers: an allocator's arena, a
/// locale, a queue of errors, the span of a trace. Each fiber has a state of its own for each hook,
/// of `state_bytes`, zeroes at first and aligned as malloc() does. A null function is not called.
///
/// When a fiber runs on a thread, `enter` puts its state into the thread; when it leaves, `leave`
/// takes it out again and gives the thread back what it had before. So a swap serves as both.
///
/// Hooks are called between two fibers, `enter` and `leave` on a worker at each switch. They must
/// not wait, which is fatal, nor start fibers, should not allocate, and cannot throw. They run on
/// the stack of a fiber. For the functions that blocking() runs, and for plain threads, they are
/// not called.
///
/// Threads: each is called by several threads at a time, but with one state by one at a time.
struct switch_hook {
  std::size_t state_bytes = sizeof(void*);
  /// By whoever starts the fiber, who may hand on what he has.
  void (*start)(void* state) noexcept = nullptr;
  /// Before the fiber runs, each time; in the order in which the hooks stand in the options.
  void (*enter)(void* state) noexcept = nullptr;
  /// After the fiber has run, each time; in the reverse order, as `end`.
  void (*leave)(void* state) noexcept = nullptr;
  /// After the last leave(), or for a fiber that never ran, when its runtime is destroyed. Not for
  /// one that is abandoned.
  void (*end)(void* state) noexcept = nullptr;
};

namespace detail {
struct seam;
class runtime_impl;
}  // namespace detail

struct runtime_options {
  /// Worker threads; 0: as many as EXEUNT_PROCS says, else as the affinity mask and the cgroup's
  /// CPU limit allow, also when that changes (seen within some seconds, while fibers run).
  unsigned procs = 0;
  /// Default address space of a fiber's stack, in bytes, without its guard of 20 KiB.
  std::size_t stack_size = std::size_t{128} * 1024;
  /// For exceptions that leave fibers started by go().
  exeunt::on_panic on_panic = exeunt::on_panic::report;
  /// If set, called instead of the policy above, on the fiber that failed, or that of its owner if
  /// he did not read the failure; must not throw.
  std::function<void(const panic_report&)> panic_handler = {};
  /// Whether a stack overflow is explained before the process ends by it: which fiber, started
  /// where. Previous handlers are chained. run() turns it on. (For SIGQUIT see signal::quit_dumps.)
  bool signal_dumps = false;
  /// Threads of blocking() at a time, at most; 0 counts as 1. Calls beyond that wait their turn.
  unsigned blocking_threads_max = 512;
  /// How long a thread of blocking() stays without work before it ends.
  clock::duration blocking_keep_alive = std::chrono::seconds{10};
  /// Called at each switch. Without any it costs one predicted branch.
  std::vector<switch_hook> on_switch = {};
  /// Parts that simulations replace; null in production.
  detail::seam* seam = nullptr;
};

/// One fiber as a dump shows it.
struct fiber_info {
  enum class run_state : std::uint8_t { ready, running, parked };

  std::uint64_t id = 0;
  std::string name;
  run_state state = run_state::ready;
  std::string waits_for;    ///< "channel receive"; empty unless parked
  clock::duration since{};  ///< how long it has been in this state (parked only)
  std::source_location started_at;
};

/// Counts since the runtime's start.
struct runtime_stats {
  unsigned workers = 0;  ///< that run fibers at a time: runtime_options::procs
  unsigned threads = 0;  ///< of workers; more than that while fibers block theirs
  std::uint64_t fibers_alive = 0;
  std::uint64_t fibers_started = 0;
  std::uint64_t panics = 0;
  std::uint64_t steals = 0;              ///< thefts from other workers, each of up to 128 fibers
  std::uint64_t parks = 0;               ///< worker threads going to sleep
  std::uint64_t withdrawals = 0;         ///< of workers that left the work to others
  unsigned blocking_threads = 0;         ///< of blocking(), now
  unsigned blocking_threads_idle = 0;    ///< those of them without work
  std::uint64_t blocking_queued = 0;     ///< calls of blocking() that wait for a thread, now
  std::uint64_t blocking_completed = 0;  ///< calls that have run on one
};

/// A set of worker threads and the fibers they run. Several may live at once, and one after the
/// other; one that has been stopped stays so.
///
/// After fork() a child of a process that has had a runtime has none: exec and exit are what it
/// may do. Calls that need a runtime (to start a fiber or a timer, to wait, to yield, to register
/// a descriptor, to make a runtime) and the return from the fiber that forked abort with a message
/// that says so; those that only touch memory, such as a send that finds room, go on.
///
/// Signals: the workers, and the threads of blocking(), have the mask of the thread that made the
///          runtime, with SIGPIPE blocked. A child of fork() has SIGPIPE as it was. posix_spawn(),
///          system() and popen() hand the mask on as it is: with posix_spawn() give a mask
///          (POSIX_SPAWN_SETSIGMASK) to children that are to end by SIGPIPE.
/// Threads: all members may be called from anywhere but stop(), run() and the destructor, which
///          must not be called from one of this runtime's own fibers.
class EXEUNT_API runtime {
 public:
  /// Starts the workers.
  /// Throws: std::system_error if the system refuses a thread or a descriptor.
  explicit runtime(runtime_options options = {});
  /// stop().
  ~runtime();
  runtime(const runtime&) = delete;
  runtime& operator=(const runtime&) = delete;

  /// Starts a fiber here.
  template <typename F>
    requires std::is_invocable_v<std::decay_t<F>>
  void go(F&& f, std::source_location where = std::source_location::current()) {
    start({.started_at = where}, detail::bind_body(std::forward<F>(f)));
  }
  template <typename F>
    requires std::is_invocable_v<std::decay_t<F>>
  void go(const fiber_options& options, F&& f) {
    start(options, detail::bind_body(std::forward<F>(f)));
  }

  /// Runs `f` in a fiber here and waits for it; an exception of it is thrown to the caller.
  ///
  /// Blocks: the calling thread (or fiber of another runtime) until f returns.
  template <typename F>
    requires std::is_invocable_v<F&>
  std::invoke_result_t<F&> run(F&& f,
                               std::source_location where = std::source_location::current()) {
    using value = std::invoke_result_t<F&>;
    if constexpr (std::is_void_v<value>) {
      run_body({.name = "main", .started_at = where}, [&f] { f(); });
    } else {
      std::optional<value> returned;
      run_body({.name = "main", .started_at = where}, [&f, &returned] { returned.emplace(f()); });
      return std::move(*returned);
    }
  }

  /// Ends all workers: each stops at its fiber's next scheduling point. Fibers still alive are
  /// abandoned (never unwound, and their stacks kept, as what they wait for may refer to them) and
  /// reported, with the lines that started them. Idempotent.
  ///
  /// Calls of blocking() that wait for a thread are not begun any more. Those that have begun run
  /// to their end on their threads; who must know that they have ended waits for them before.
  ///
  /// Blocks:  until running fibers reach a scheduling point. First waits up to 100 ms for those
  ///          that are ready to run and for calls of blocking(), so that only what really waits is
  ///          reported.
  /// Returns: how many fibers were abandoned.
  /// Asserts: that no go() or run() of this runtime comes after it.
  /// Ordering: what the fibers did happens before stop() returns.
  std::size_t stop() noexcept;

  /// Every fiber alive, by id. A snapshot: states may be old when it returns.
  ///
  /// Throws: std::bad_alloc.
  /// Cost:   a look at every control block, under a lock that new slabs of them need. For people
  ///         and their tools, not for each request.
  [[nodiscard]] std::vector<fiber_info> fibers() const;
  [[nodiscard]] runtime_stats stats() const noexcept;

  /// How many worker threads run fibers at a time. Fibers that block their thread, or keep it for
  /// longer than some 10 ms, do not count: others take their workers' place meanwhile.
  [[nodiscard]] unsigned procs() const noexcept;
  /// Changes that, from 1 to 1024; 0: as runtime_options::procs. Takes effect within some
  /// milliseconds: surplus workers end when their fibers come to a scheduling point. Not under
  /// simulation.
  void set_procs(unsigned count) noexcept;

  /// The runtime of the running fiber; else the default one, started if need be.
  static runtime& current();
  /// Whether the caller is a fiber (of any runtime).
  static bool on_fiber() noexcept;

 private:
  friend class detail::runtime_impl;
  struct default_tag {
    explicit default_tag(int) noexcept {
    }  // No aggregate: it would compete for `runtime{{.procs = 2}}`.
  };
  explicit runtime(default_tag);
  void start(const fiber_options& options, unique_function<void()> body);
  void run_body(const fiber_options& options, function_ref<void()> body);

  std::unique_ptr<detail::runtime_impl> impl_;
};

namespace detail {
EXEUNT_API int run_main(function_ref<int()> body, runtime_options&& options,
                        std::source_location where);
}  // namespace detail

/// Runs `f` as the main fiber of a runtime of its own, for use in main().
///
/// When f has returned, the runtime stops as runtime::stop() says; fibers left over are reported
/// as leaks. `f` returns nothing, an int, or a result<>.
///
/// Returns: f's int; exit_code() of its result; 0; or 1 if an exception left f, which is reported.
/// Blocks:  the calling thread.
template <typename F>
  requires std::is_invocable_v<F&>
int run(F&& f, runtime_options options = {.signal_dumps = true},
        std::source_location where = std::source_location::current()) {
  using value = std::invoke_result_t<F&>;
  return detail::run_main(
      [&f]() -> int {
        if constexpr (std::is_void_v<value>) {
          f();
          return 0;
        } else if constexpr (std::is_same_v<value, result<>>) {
          return exit_code(f());
        } else {
          return f();
        }
      },
      std::move(options), where);
}

/// All fibers of all runtimes as text, for logs and debug pages.
///
/// Throws: std::bad_alloc.
/// Cost:   as runtime::fibers() of each.
EXEUNT_API std::string dump_fibers();

}  // namespace exeunt
