// SPDX-License-Identifier: Apache-2.0
// Failures as values: what happened, while doing what, and where it was thrown.

#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include <exeunt/base/export.hpp>

namespace exeunt {

/// The library's own outcomes. OS errors use std::system_category.
enum class errc : std::uint8_t {
  canceled = 1,       ///< a context was cancelled
  deadline_exceeded,  ///< a context's deadline passed
  closed,             ///< the channel, listener or connection is closed
  limit_exceeded,     ///< a bound of the options was reached
  malformed,          ///< input that breaks its format
  shutting_down,      ///< the server or service is stopping
  panic,              ///< an exception left a fiber, or a contract was broken
};

/// The category of errc; one instance in the process.
EXEUNT_API const std::error_category& error_category() noexcept;
inline std::error_code make_error_code(errc code) noexcept {
  return {static_cast<int>(code), error_category()};
}

}  // namespace exeunt

template <>
struct std::is_error_code_enum<exeunt::errc> : std::true_type {};

namespace exeunt {

namespace detail {
struct error_rep;

/// The fiber that an exception left.
struct fiber_origin {
  std::uint64_t id = 0;  ///< 0: it was none
  std::string name;
  std::source_location started_at;
};
}  // namespace detail

/// A failure. Never empty, one word, cheap to copy.
///
/// A plain code is held in the word itself; wrapping, joining and exceptions allocate one shared
/// immutable record.
/// Threads: const members may be called concurrently on one object; copies are independent.
class EXEUNT_API error {
 public:
  error(errc code) noexcept;
  /// `code` must be a failure; a success is turned into errc::panic.
  error(std::error_code code);
  error(std::errc code) noexcept;
  error(errc code, std::string message);

  error(const error& other) noexcept;
  error(error&& other) noexcept;
  error& operator=(const error& other) noexcept;
  error& operator=(error&& other) noexcept;
  ~error();

  /// The failure of the last system call, from its errno value.
  [[nodiscard]] static error from_errno(int number) noexcept;
  /// What `exception` says, with its type and the stack of the throw if it was captured.
  [[nodiscard]] static error from_exception(std::exception_ptr exception, std::string stack = {},
                                            detail::fiber_origin origin = {});
  /// "SIGINT received": the cause of a context that a signal ended.
  [[nodiscard]] static error from_signal(int number);

  /// The innermost code. For joined errors, the first one's.
  [[nodiscard]] std::error_code code() const noexcept;
  /// True if the code, or that of anything wrapped or joined, equals or is equivalent to it.
  [[nodiscard]] bool is(errc code) const noexcept;
  [[nodiscard]] bool is(std::errc code) const noexcept;
  /// True if this is `code` and nothing else: of joined errors, each one.
  [[nodiscard]] bool only(std::error_code code) const noexcept;

  /// The chain from the outside in: "listen tcp :8080: address already in use".
  [[nodiscard]] std::string message() const;

  /// This error with what was being done put in front.
  [[nodiscard]] error wrap(std::string_view doing) const;

  /// The exception this error was made of, or null.
  [[nodiscard]] std::exception_ptr exception() const noexcept;
  /// The type of that exception as written in C++, or empty.
  [[nodiscard]] std::string_view exception_type() const noexcept;
  /// The stack where it was thrown, a frame a line, or empty.
  [[nodiscard]] std::string_view stack() const noexcept;
  /// The fiber that the exception left; null if it was none. For reports, as they may come from the
  /// fiber of somebody who did not read this error.
  [[nodiscard]] const detail::fiber_origin* origin() const noexcept;
  /// The number of the signal that is the reason; nothing if one of several joined errors has
  /// another.
  [[nodiscard]] std::optional<int> signal() const noexcept;

  /// Throws the exception, or std::system_error with code and message.
  [[noreturn]] void rethrow() const;

  /// Both errors; the first one leads. `join(a, a)` of one and the same record is `a`.
  friend EXEUNT_API error join(const error& first, const error& second);
  /// The same record, or the same plain code.
  friend bool operator==(const error& a, const error& b) noexcept { return a.word_ == b.word_; }

 private:
  explicit error(detail::error_rep* rep) noexcept;
  [[nodiscard]] const detail::error_rep* rep() const noexcept;
  [[nodiscard]] bool matches(std::error_code code, std::error_condition condition) const noexcept;
  friend struct detail::error_rep;

  std::uintptr_t word_;  // Bit 0 set: bits 8.. are the code and bit 1 tells errno from errc.
};

/// Thrown where Go panics: a contract was broken by the caller.
class EXEUNT_API panic_error : public std::logic_error {
 public:
  using std::logic_error::logic_error;
  ~panic_error() override;
};

/// Thrown by a send on a closed channel and by a second close.
class EXEUNT_API closed_channel : public panic_error {
 public:
  using panic_error::panic_error;
  ~closed_channel() override;
};

}  // namespace exeunt
