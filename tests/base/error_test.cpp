// SPDX-License-Identifier: Apache-2.0

#include <exeunt/base/error.hpp>

#include <cerrno>
#include <csignal>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include <exeunt/base/log.hpp>
#include <exeunt/base/result.hpp>

namespace exeunt {
namespace {

static_assert(sizeof(error) == sizeof(void*));
static_assert(std::is_nothrow_copy_constructible_v<error>);
static_assert(std::is_nothrow_move_constructible_v<error>);
static_assert(!std::is_default_constructible_v<error>);

error thrown(auto&& exception) {
  return error::from_exception(std::make_exception_ptr(exception), "  at somewhere\n");
}

TEST(base_error, holds_a_plain_code) {
  const error closed = errc::closed;
  EXPECT_EQ(closed.code(), make_error_code(errc::closed));
  EXPECT_TRUE(closed.is(errc::closed));
  EXPECT_FALSE(closed.is(errc::canceled));
  EXPECT_EQ(closed.message(), "closed");
}

TEST(base_error, every_code_has_words_and_none_is_success) {
  for (const errc code :
       {errc::canceled, errc::deadline_exceeded, errc::closed, errc::limit_exceeded,
        errc::malformed, errc::shutting_down, errc::panic}) {
    EXPECT_TRUE(make_error_code(code));
    EXPECT_NE(error{code}.message(), "unknown error");
  }
}

TEST(base_error, codes_map_to_the_standard_conditions) {
  EXPECT_TRUE(error{errc::canceled}.is(std::errc::operation_canceled));
  EXPECT_TRUE(error{errc::deadline_exceeded}.is(std::errc::timed_out));
  EXPECT_FALSE(error{errc::deadline_exceeded}.is(std::errc::operation_canceled));
}

TEST(base_error, holds_an_errno_value) {
  const error in_use = error::from_errno(EADDRINUSE);
  EXPECT_EQ(in_use.code(), std::error_code(EADDRINUSE, std::system_category()));
  EXPECT_TRUE(in_use.is(std::errc::address_in_use));
  EXPECT_EQ(in_use.message(), "address already in use");
}

TEST(base_error, an_errno_value_that_means_success_is_still_a_failure) {
  EXPECT_TRUE(error::from_errno(0).code());
}

TEST(base_error, takes_codes_of_any_category) {
  EXPECT_TRUE(error{make_error_code(errc::closed)}.is(errc::closed));
  EXPECT_TRUE(error(std::error_code(ENOENT, std::system_category()))
                  .is(std::errc::no_such_file_or_directory));
  const auto foreign = std::make_error_code(std::errc::no_link);
  EXPECT_EQ(error{foreign}.code(), foreign);
}

TEST(base_error, a_code_that_means_success_becomes_a_panic) {
  EXPECT_TRUE(error{std::error_code{}}.is(errc::panic));
}

TEST(base_error, says_what_it_was_given) {
  const error malformed{errc::malformed, "header too long"};
  EXPECT_TRUE(malformed.is(errc::malformed));
  EXPECT_EQ(malformed.message(), "header too long");
}

TEST(base_error, wrapping_reads_from_the_outside_in_and_keeps_the_code) {
  const error wrapped = error::from_errno(EADDRINUSE).wrap("listen tcp :8080").wrap("start");
  EXPECT_EQ(wrapped.message(), "start: listen tcp :8080: address already in use");
  EXPECT_TRUE(wrapped.is(std::errc::address_in_use));
  EXPECT_EQ(wrapped.code().value(), EADDRINUSE);
}

TEST(base_error, joined_errors_are_both_found_and_the_first_leads) {
  const error both = join(errc::closed, error::from_errno(EPIPE).wrap("write"));
  EXPECT_TRUE(both.is(errc::closed));
  EXPECT_TRUE(both.is(std::errc::broken_pipe));
  EXPECT_FALSE(both.is(errc::canceled));
  EXPECT_EQ(both.code(), make_error_code(errc::closed));
  EXPECT_EQ(both.message(), "closed; write: broken pipe");
}

TEST(base_error, joining_joined_errors_gives_one_flat_list) {
  const error first{errc::closed, "one"};
  const error second{errc::closed, "two"};
  const error third{errc::closed, "three"};
  EXPECT_EQ(join(join(first, second), third).message(), "one; two; three");
  EXPECT_EQ(join(first, join(second, third)).message(), "one; two; three");
}

TEST(base_error, joining_an_error_with_itself_adds_nothing) {
  const error one{errc::closed, "one"};
  EXPECT_EQ(join(one, one), one);
  EXPECT_EQ(join(error{errc::closed}, error{errc::closed}).message(), "closed");
}

TEST(base_error, equality_is_of_the_record_or_the_plain_code) {
  EXPECT_EQ(error{errc::closed}, error{errc::closed});
  EXPECT_FALSE(error{errc::closed} == error{errc::canceled});
  const error one{errc::closed, "same words"};
  const error copy = one;
  EXPECT_EQ(one, copy);
  EXPECT_FALSE(one == error(errc::closed, "same words"));
}

TEST(base_error, a_moved_one_leaves_a_valid_failure_behind) {
  error from{errc::closed, "moved"};
  const error to = std::move(from);
  EXPECT_EQ(to.message(), "moved");
  EXPECT_TRUE(from.code());  // NOLINT: never empty is the promise.
}

TEST(base_error, assignment_survives_the_same_object) {
  error one{errc::closed, "kept"};
  error& same = one;
  one = same;
  EXPECT_EQ(one.message(), "kept");
  one = std::move(same);
  EXPECT_EQ(one.message(), "kept");
}

TEST(base_error, copies_share_and_outlive_the_original) {
  auto original = std::make_unique<error>(errc::closed, "shared");
  const error copy = *original;
  original.reset();
  EXPECT_EQ(copy.message(), "shared");
}

TEST(base_error, keeps_an_exception_with_type_and_stack) {
  const error caught = thrown(std::runtime_error{"disk on fire"});
  EXPECT_TRUE(caught.is(errc::panic));
  EXPECT_EQ(caught.message(), "disk on fire (std::runtime_error)");
  EXPECT_EQ(caught.exception_type(), "std::runtime_error");
  EXPECT_EQ(caught.stack(), "  at somewhere\n");
  EXPECT_THROW(caught.rethrow(), std::runtime_error);
}

TEST(base_error, keeps_an_exception_that_is_no_std_exception) {
  const error caught = thrown(42);
  EXPECT_EQ(caught.exception_type(), "int");
  EXPECT_THROW(caught.rethrow(), int);
}

TEST(base_error, finds_the_exception_inside_wrapped_and_joined_errors) {
  const error outer = join(errc::closed, thrown(std::runtime_error{"inner"}).wrap("worker"));
  EXPECT_EQ(outer.exception_type(), "std::runtime_error");
  EXPECT_EQ(outer.stack(), "  at somewhere\n");
  EXPECT_THROW(outer.rethrow(), std::runtime_error);
}

TEST(base_error, rethrow_without_an_exception_throws_code_and_message) {
  try {
    error::from_errno(ENOENT).wrap("open config").rethrow();
  } catch (const std::system_error& e) {
    EXPECT_EQ(e.code().value(), ENOENT);
    EXPECT_NE(std::string{e.what()}.find("open config"), std::string::npos);
    return;
  }
  FAIL() << "nothing was thrown";
}

TEST(base_error, a_plain_code_has_neither_exception_nor_signal) {
  const error closed = errc::closed;
  EXPECT_EQ(closed.exception(), nullptr);
  EXPECT_TRUE(closed.exception_type().empty());
  EXPECT_TRUE(closed.stack().empty());
  EXPECT_FALSE(closed.signal().has_value());
}

TEST(base_error, names_the_signal_that_was_the_reason) {
  const error ended = error::from_signal(SIGTERM);
  EXPECT_EQ(ended.signal(), SIGTERM);
  EXPECT_EQ(ended.message(), "SIGTERM received");
  EXPECT_TRUE(ended.is(errc::canceled));
  EXPECT_EQ(ended.wrap("serve").signal(), SIGTERM);
}

TEST(base_error, what_a_contract_throws_is_a_logic_error) {
  EXPECT_THROW(throw closed_channel{"send on closed channel"}, panic_error);
  EXPECT_THROW(throw panic_error{"negative wait_group counter"}, std::logic_error);
}

TEST(base_result, true_is_success) {
  const result<> fine;
  EXPECT_TRUE(fine);
  const result<int> failed = fail(errc::closed);
  EXPECT_FALSE(failed);
  EXPECT_TRUE(failed.error().is(errc::closed));
  const result<int> told = fail(errc::malformed, "line 3");
  EXPECT_EQ(told.error().message(), "line 3");
}

std::string logged;

class base_exit_code : public ::testing::Test {
 protected:
  void SetUp() override {
    logged.clear();
    set_log_sink([](std::string_view text) noexcept { logged += text; });
  }
  void TearDown() override { set_log_sink(nullptr); }
};

TEST_F(base_exit_code, is_0_for_success) {
  EXPECT_EQ(exit_code({}), 0);
  EXPECT_EQ(logged, "");
}

TEST_F(base_exit_code, is_0_when_a_signal_ended_it) {
  EXPECT_EQ(exit_code(fail(error::from_signal(SIGINT).wrap("serve"))), 0);
  EXPECT_EQ(logged, "");
}

TEST_F(base_exit_code, is_1_for_a_failure_which_it_says) {
  EXPECT_EQ(exit_code(fail(error::from_errno(EADDRINUSE).wrap("listen tcp :80"))), 1);
  EXPECT_EQ(logged, "error: listen tcp :80: address already in use\n");
}

TEST_F(base_exit_code, shows_the_stack_of_an_exception) {
  EXPECT_EQ(exit_code(fail(thrown(std::runtime_error{"broken"}))), 1);
  EXPECT_EQ(logged, "error: broken (std::runtime_error)\n  at somewhere\n");
}

// A signal asked for the end, but something failed on the way: the status must say so.
TEST(error_signal, does_not_hide_another_failure) {
  const error asked = error::from_signal(SIGTERM);
  const error cut{errc::deadline_exceeded, "1 request was cut"};
  EXPECT_EQ(join(asked, asked.wrap("task")).signal(), SIGTERM);
  EXPECT_EQ(join(asked, cut).signal(), std::nullopt);
  EXPECT_EQ(join(cut, asked).signal(), std::nullopt);
  testing::internal::CaptureStderr();
  EXPECT_EQ(exit_code(fail(join(asked, cut))), 1);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("1 request was cut"), std::string::npos);
  EXPECT_EQ(exit_code(fail(asked)), 0);
}

}  // namespace
}  // namespace exeunt
