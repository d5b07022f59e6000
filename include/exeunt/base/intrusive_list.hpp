// SPDX-License-Identifier: Apache-2.0
// A doubly linked list whose links live in the elements: no allocation, removal in constant time.

#pragma once

#include <cstddef>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/atomic.hpp>
#include <exeunt/base/race.hpp>

namespace exeunt::detail {

/// Base of what can be in a list. `Tag` tells apart several lists that one element is in at once.
template <typename Tag = void>
struct list_hook {
  list_hook* hook_prev = nullptr;
  list_hook* hook_next = nullptr;

  EXEUNT_NO_TSAN bool linked() const noexcept { return hook_next != nullptr; }
};

/// A circular list of `T`, which derives from list_hook<Tag>. Owns nothing.
///
/// Threads: none of its own; whoever holds the list's lock. But was_empty(): any; so what it reads,
///          the head's link to the first, is stored as an atomic would be.
template <typename T, typename Tag = void>
class intrusive_list {
  using hook = list_hook<Tag>;

 public:
  EXEUNT_NO_TSAN intrusive_list() noexcept { head_.hook_prev = head_.hook_next = &head_; }
  intrusive_list(const intrusive_list&) = delete;
  intrusive_list& operator=(const intrusive_list&) = delete;

  EXEUNT_NO_TSAN bool empty() const noexcept { return head_.hook_next == &head_; }
  /// As empty(), for who does not hold the list's lock: whether it was so at one moment, ordered
  /// before what the caller looks at next.
  EXEUNT_NO_TSAN bool was_empty() const noexcept {
    return load_word_acquire(head_.hook_next) == &head_;
  }
  EXEUNT_NO_TSAN T* front() noexcept {
    return empty() ? nullptr : static_cast<T*>(head_.hook_next);
  }
  EXEUNT_NO_TSAN T* back() noexcept { return empty() ? nullptr : static_cast<T*>(head_.hook_prev); }

  EXEUNT_NO_TSAN void push_back(T& element) noexcept { link(element, *head_.hook_prev, head_); }
  EXEUNT_NO_TSAN void push_front(T& element) noexcept { link(element, head_, *head_.hook_next); }

  EXEUNT_NO_TSAN T* pop_front() noexcept {
    T* const first = front();
    if (first != nullptr) remove(*first);
    return first;
  }

  /// Asserts: the element is linked (in this list; that is the caller's word).
  EXEUNT_NO_TSAN static void remove(T& element) noexcept {
    hook& h = element;
    EXEUNT_ASSERT(h.linked());
    store_word(h.hook_prev->hook_next, h.hook_next);
    h.hook_next->hook_prev = h.hook_prev;
    h.hook_prev = h.hook_next = nullptr;
  }

  /// The element after `element`, or null at the end.
  EXEUNT_NO_TSAN T* next(T& element) noexcept {
    hook& h = element;
    return h.hook_next == &head_ ? nullptr : static_cast<T*>(h.hook_next);
  }

  /// Moves all elements of `other` to the end of this list.
  EXEUNT_NO_TSAN void append(intrusive_list& other) noexcept {
    if (other.empty()) return;
    other.head_.hook_next->hook_prev = head_.hook_prev;
    store_word(head_.hook_prev->hook_next, other.head_.hook_next);
    other.head_.hook_prev->hook_next = &head_;
    head_.hook_prev = other.head_.hook_prev;
    other.head_.hook_prev = &other.head_;
    store_word(other.head_.hook_next, &other.head_);
  }

 private:
  EXEUNT_NO_TSAN static void link(hook& h, hook& before, hook& after) noexcept {
    EXEUNT_ASSERT(!h.linked());
    h.hook_prev = &before;
    h.hook_next = &after;
    store_word(before.hook_next, &h);
    after.hook_prev = &h;
  }

  hook head_;
};

}  // namespace exeunt::detail
