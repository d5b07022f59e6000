// SPDX-License-Identifier: Apache-2.0
// What the process does with each signal: ours, or what it did before, and which it may be.

#pragma once

#include <array>
#include <bitset>
#include <csignal>
#include <span>

namespace exeunt::os {

/// One more than the highest number.
inline constexpr int signal_count = 65;
using signal_set = std::bitset<signal_count>;

/// The numbers as a set; all that may be caught if there are none.
/// Throws: panic_error for one that may not.
[[nodiscard]] signal_set checked_set(std::span<const int> numbers);

/// The dispositions of the signals, as this library changes them.
///
/// Threads: none of its own; the dispatcher's lock.
class signal_table {
 public:
  using handler = void (*)(int, siginfo_t*, void*);

  /// Catches `number` by `ours`. Remembers what it did before, unless it is ours already.
  void install(int number, handler ours) noexcept;
  /// Nobody asks for `number` any more. Gives it its former effect, but for those that are dropped
  /// when they come late (see signal::subscription::stop()), unless `deadly`.
  void uninstall(int number, bool deadly) noexcept;
  /// Uninstalls, and ignores it from now on.
  void ignore(int number) noexcept;
  /// Uninstalls, and gives it the effect that it had at the first touch.
  void reset(int number) noexcept;

  [[nodiscard]] bool installed(int number) const noexcept { return entry_of(number).installed; }
  [[nodiscard]] const signal_set& installed() const noexcept { return installed_; }
  /// Whether a function handled it before.
  [[nodiscard]] bool had_handler(int number) const noexcept;
  /// Gives `number` to the function that handled it before, until it is installed again.
  /// Asserts: had_handler().
  void hand_back(int number) noexcept;

 private:
  struct entry {
    bool known = false;           // `original` is set.
    bool installed = false;       // By us, whether somebody asks for it or not.
    struct sigaction original{};  // At the first touch.
    struct sigaction former{};    // When it was installed last.
  };
  entry& entry_of(int number) noexcept { return entries_[static_cast<std::size_t>(number)]; }
  const entry& entry_of(int number) const noexcept {
    return entries_[static_cast<std::size_t>(number)];
  }
  void remember(int number) noexcept;
  void change(int number, const struct sigaction& to) noexcept;

  std::array<entry, signal_count> entries_{};
  signal_set installed_;
};

/// Whether the process ignores it now.
[[nodiscard]] bool is_ignored(int number) noexcept;

/// "SIGTERM".
[[nodiscard]] const char* name_of(int number, char (&room)[16]) noexcept;

}  // namespace exeunt::os
