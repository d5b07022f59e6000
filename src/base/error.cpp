// SPDX-License-Identifier: Apache-2.0
// The error's shared record, its two categories of codes, and how a chain reads.
//
// Invariants:
//   I1  A record never changes once an error holds it.
//   I2  A word with bit 0 set is a plain code; else it is the address of a record.
//   I3  A record has a code that is a failure.
// Tests: tests/base/error_test.cpp.

#include <exeunt/base/error.hpp>

#include <cxxabi.h>
#include <cctype>
#include <csignal>
#include <cstring>
#include <typeinfo>
#include <utility>
#include <vector>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/log.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/base/result.hpp>

namespace exeunt {

namespace {

class category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "exeunt"; }

  std::string message(int code) const override {
    switch (static_cast<errc>(code)) {
      case errc::canceled:
        return "canceled";
      case errc::deadline_exceeded:
        return "deadline exceeded";
      case errc::closed:
        return "closed";
      case errc::limit_exceeded:
        return "limit exceeded";
      case errc::malformed:
        return "malformed";
      case errc::shutting_down:
        return "shutting down";
      case errc::panic:
        return "panic";
    }
    return "unknown error";
  }

  std::error_condition default_error_condition(int code) const noexcept override {
    switch (static_cast<errc>(code)) {
      case errc::canceled:
        return std::errc::operation_canceled;
      case errc::deadline_exceeded:
        return std::errc::timed_out;
      case errc::closed:
        return std::errc::broken_pipe;
      case errc::limit_exceeded:
        return std::errc::value_too_large;
      case errc::malformed:
        return std::errc::protocol_error;
      case errc::shutting_down:
      case errc::panic:
        break;
    }
    return {code, *this};
  }
};

// strerror() begins with a capital; inside a chain that reads wrong.
std::string readable(std::error_code code) {
  std::string text = code.message();
  if (text.size() > 1 && code.category() == std::system_category() &&
      std::islower(static_cast<unsigned char>(text[1])) != 0) {
    text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  }
  return text;
}

std::string demangle(const char* name) {
  int status = 0;
  char* const text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  if (status != 0 || text == nullptr) return name;
  std::string result{text};
  std::free(text);
  return result;
}

constexpr std::uintptr_t plain_bit = 1;
constexpr std::uintptr_t errno_bit = 2;
constexpr unsigned code_shift = 8;

std::uintptr_t plain(errc code) noexcept {
  return (static_cast<std::uintptr_t>(code) << code_shift) | plain_bit;
}
std::uintptr_t plain_errno(int number) noexcept {
  EXEUNT_ASSERT(number > 0, "an errno value that means success");
  return (static_cast<std::uintptr_t>(number) << code_shift) | errno_bit | plain_bit;
}

}  // namespace

namespace detail {

struct error_rep : ref_counted {
  std::error_code code;
  std::string text;          // What was being done, or the whole message of a leaf.
  std::vector<error> inner;  // One: wrapped. More: joined.
  std::exception_ptr exception;
  std::string type;
  std::string stack;
  fiber_origin origin;
  int signal = 0;

  void release() const noexcept {
    if (drop()) delete this;
  }
  static error make(error_rep* rep) noexcept { return error{rep}; }
};

}  // namespace detail

using detail::error_rep;

const std::error_category& error_category() noexcept {
  static const category instance;
  return instance;
}

error::error(errc code) noexcept : word_{plain(code)} {}

error::error(std::errc code) noexcept : word_{plain_errno(static_cast<int>(code))} {}

error::error(std::error_code code) : word_{0} {
  if (!code) {
    word_ = plain(errc::panic);
  } else if (code.category() == error_category()) {
    word_ = plain(static_cast<errc>(code.value()));
  } else if (code.category() == std::system_category() && code.value() > 0) {
    word_ = plain_errno(code.value());
  } else {
    auto* const made = new error_rep;
    made->code = code;
    word_ = reinterpret_cast<std::uintptr_t>(made);
  }
}

error::error(errc code, std::string message) : word_{0} {
  auto* const made = new error_rep;
  made->code = code;
  made->text = std::move(message);
  word_ = reinterpret_cast<std::uintptr_t>(made);
}

error::error(error_rep* rep) noexcept : word_{reinterpret_cast<std::uintptr_t>(rep)} {}

error::error(const error& other) noexcept : word_{other.word_} {
  if (const error_rep* const shared = rep()) shared->add_ref();
}

error::error(error&& other) noexcept : word_{std::exchange(other.word_, plain(errc::panic))} {}

error& error::operator=(const error& other) noexcept {
  error copy{other};
  std::swap(word_, copy.word_);
  return *this;
}

error& error::operator=(error&& other) noexcept {
  std::swap(word_, other.word_);
  return *this;
}

error::~error() {
  if (const error_rep* const shared = rep()) shared->release();
}

const error_rep* error::rep() const noexcept {
  return (word_ & plain_bit) != 0 ? nullptr : reinterpret_cast<const error_rep*>(word_);
}

error error::from_errno(int number) noexcept {
  return error{static_cast<std::errc>(number > 0 ? number : EIO)};
}

error error::from_exception(std::exception_ptr exception, std::string stack,
                            detail::fiber_origin origin) {
  auto* const made = new error_rep;
  made->code = errc::panic;
  made->exception = std::move(exception);
  made->stack = std::move(stack);
  made->origin = std::move(origin);
  try {
    if (made->exception) std::rethrow_exception(made->exception);
  } catch (const std::exception& e) {
    made->type = demangle(typeid(e).name());
    made->text = e.what();
  } catch (...) {
    if (const std::type_info* const type = abi::__cxa_current_exception_type()) {
      made->type = demangle(type->name());
    }
  }
  return error{made};
}

error error::from_signal(int number) {
  auto* const made = new error_rep;
  made->code = errc::canceled;
  made->signal = number;
  const char* const name = ::sigabbrev_np(number);
  made->text = name != nullptr ? "SIG" + std::string{name} : "signal " + std::to_string(number);
  made->text += " received";
  return error{made};
}

std::error_code error::code() const noexcept {
  if (const error_rep* const shared = rep()) return shared->code;
  const auto number = static_cast<int>(word_ >> code_shift);
  if ((word_ & errno_bit) != 0) return {number, std::system_category()};
  return {number, error_category()};
}

bool error::matches(std::error_code wanted, std::error_condition condition) const noexcept {
  const std::error_code own = code();
  if (own == wanted || own == condition) return true;
  if (const error_rep* const shared = rep()) {
    for (const error& part : shared->inner) {
      if (part.matches(wanted, condition)) return true;
    }
  }
  return false;
}

bool error::is(errc wanted) const noexcept {
  return matches(make_error_code(wanted),
                 std::error_condition{static_cast<int>(wanted), error_category()});
}

bool error::is(std::errc wanted) const noexcept {
  return matches(std::error_code{static_cast<int>(wanted), std::generic_category()},
                 std::make_error_condition(wanted));
}

bool error::only(std::error_code wanted) const noexcept {
  if (code() != wanted) return false;
  if (const error_rep* const shared = rep()) {
    for (const error& part : shared->inner) {
      if (!part.only(wanted)) return false;
    }
  }
  return true;
}

std::string error::message() const {
  const error_rep* const shared = rep();
  if (shared == nullptr) return readable(code());
  if (shared->inner.size() > 1) {
    std::string text;
    for (const error& part : shared->inner) {
      if (!text.empty()) text += "; ";
      text += part.message();
    }
    return text;
  }
  if (shared->inner.size() == 1) return shared->text + ": " + shared->inner.front().message();
  if (!shared->type.empty()) {
    return shared->text.empty() ? shared->type : shared->text + " (" + shared->type + ")";
  }
  return shared->text.empty() ? readable(shared->code) : shared->text;
}

error error::wrap(std::string_view doing) const {
  auto* const made = new error_rep;
  made->code = code();
  made->text = doing;
  made->inner.push_back(*this);
  return error{made};
}

error join(const error& first, const error& second) {
  if (first == second) return first;
  auto* const made = new error_rep;
  made->code = first.code();
  const auto add = [made](const error& part) {
    // Joining a joined one gives one flat list, so that the message reads as one.
    if (const error_rep* const shared = part.rep(); shared != nullptr && shared->inner.size() > 1) {
      made->inner.insert(made->inner.end(), shared->inner.begin(), shared->inner.end());
    } else {
      made->inner.push_back(part);
    }
  };
  add(first);
  add(second);
  return error_rep::make(made);
}

namespace {

// The first record in the chain that `has` accepts, outermost first.
template <typename Has>
const error_rep* find(const error_rep* from, const Has& has, auto rep_of) noexcept {
  if (from == nullptr || has(*from)) return from;
  for (const error& part : from->inner) {
    if (const error_rep* const found = find(rep_of(part), has, rep_of)) return found;
  }
  return nullptr;
}

}  // namespace

std::exception_ptr error::exception() const noexcept {
  const auto* const found = find(
      rep(), [](const error_rep& r) { return r.exception != nullptr; },
      [](const error& e) { return e.rep(); });
  return found == nullptr ? nullptr : found->exception;
}

std::string_view error::exception_type() const noexcept {
  const auto* const found = find(
      rep(), [](const error_rep& r) { return !r.type.empty(); },
      [](const error& e) { return e.rep(); });
  return found == nullptr ? std::string_view{} : found->type;
}

std::string_view error::stack() const noexcept {
  const auto* const found = find(
      rep(), [](const error_rep& r) { return !r.stack.empty(); },
      [](const error& e) { return e.rep(); });
  return found == nullptr ? std::string_view{} : found->stack;
}

const detail::fiber_origin* error::origin() const noexcept {
  const auto* const found = find(
      rep(), [](const error_rep& r) { return r.origin.id != 0; },
      [](const error& e) { return e.rep(); });
  return found == nullptr ? nullptr : &found->origin;
}

std::optional<int> error::signal() const noexcept {
  const error_rep* const shared = rep();
  if (shared == nullptr) return std::nullopt;
  if (shared->signal != 0) return shared->signal;
  std::optional<int> first;
  for (const error& part : shared->inner) {
    const std::optional<int> number = part.signal();
    if (!number) return std::nullopt;  // Something else failed, too: that must not be hidden.
    if (!first) first = number;
  }
  return first;
}

void error::rethrow() const {
  if (const std::exception_ptr held = exception()) std::rethrow_exception(held);
  throw std::system_error{code(), message()};
}

panic_error::~panic_error() = default;
closed_channel::~closed_channel() = default;

int exit_code(const result<>& outcome) noexcept {
  if (outcome.has_value() || outcome.error().signal().has_value()) return 0;
  try {
    std::string text = "error: " + outcome.error().message() + "\n";
    if (const std::string_view stack = outcome.error().stack(); !stack.empty()) text += stack;
    log_line(text);
  } catch (...) {
    log_line("error: out of memory while reporting an error");
  }
  return 1;
}

}  // namespace exeunt
