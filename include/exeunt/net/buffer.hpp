// SPDX-License-Identifier: Apache-2.0
// Views of memory to read into and to write from, made of whatever holds bytes.

#pragma once

#include <concepts>
#include <cstddef>
#include <cstring>
#include <ranges>
#include <span>
#include <string_view>
#include <type_traits>

namespace exeunt::net {

template <typename T>
concept byte_like = sizeof(T) == 1 && std::is_trivially_copyable_v<T>;

/// Memory to read into: any contiguous range of bytes or characters that can be written to.
class buffer {
 public:
  constexpr buffer() noexcept = default;
  constexpr buffer(void* data, std::size_t size) noexcept : data_{data}, size_{size} {}
  template <std::ranges::contiguous_range R>
    requires(std::ranges::sized_range<R> && !std::same_as<std::remove_cvref_t<R>, buffer> &&
             byte_like<std::ranges::range_value_t<R>> &&
             !std::is_const_v<std::remove_reference_t<std::ranges::range_reference_t<R>>>)
  constexpr buffer(R&& range) noexcept
      : data_{std::ranges::data(range)}, size_{std::ranges::size(range)} {}

  [[nodiscard]] constexpr void* data() const noexcept { return data_; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
  /// Without its first `count` bytes; `count` is at most size().
  [[nodiscard]] constexpr buffer after(std::size_t count) const noexcept {
    return {static_cast<char*>(data_) + count, size_ - count};
  }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Memory to write from: text, or any contiguous range of bytes or characters.
class const_buffer {
 public:
  constexpr const_buffer() noexcept = default;
  constexpr const_buffer(const void* data, std::size_t size) noexcept : data_{data}, size_{size} {}
  /// Text up to its first zero. So are arrays of char: for one that holds bytes, give its size.
  template <std::convertible_to<const char*> Text>
  constexpr const_buffer(const Text& text) noexcept : const_buffer{std::string_view{text}} {}
  constexpr const_buffer(std::string_view text) noexcept : data_{text.data()}, size_{text.size()} {}
  constexpr const_buffer(buffer writable) noexcept
      : data_{writable.data()}, size_{writable.size()} {}
  template <std::ranges::contiguous_range R>
    requires(std::ranges::sized_range<R> && !std::same_as<R, const_buffer> && !std::is_array_v<R> &&
             byte_like<std::ranges::range_value_t<R>>)
  constexpr const_buffer(const R& range) noexcept
      : data_{std::ranges::data(range)}, size_{std::ranges::size(range)} {}

  [[nodiscard]] constexpr const void* data() const noexcept { return data_; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] constexpr const_buffer after(std::size_t count) const noexcept {
    return {static_cast<const char*>(data_) + count, size_ - count};
  }
  [[nodiscard]] std::string_view text() const noexcept {
    return {static_cast<const char*>(data_), size_};
  }

 private:
  const void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace exeunt::net
