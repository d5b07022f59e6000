// SPDX-License-Identifier: Apache-2.0
// Making contexts and looking values up in them.
//
// Invariants:
//   I1  A context_rep does not change once a context holds it.
//   I2  rep->outer is the nearest layer outwards with a key, whatever lies between.
//   I3  rep->deadline is no later than that of any context it was derived from, unless
//       without_cancel() lies between.
// Locks: none; the tree has its own (src/sched/cancel.cpp).
// Tests: tests/context/context_test.cpp, context_litmus_test.cpp.

#include <exeunt/context/context.hpp>

#include <algorithm>
#include <new>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt {
namespace detail {

namespace {

void destroy_plain(const context_rep* self) noexcept { delete self; }

// Of one that is in its node's room, and has kept the node for that.
void destroy_in_node(const context_rep* self) noexcept {
  auto* const rep = const_cast<context_rep*>(self);
  const ref_ptr<cancel_node> node = std::move(rep->node);
  rep->~context_rep();
}

const context_rep* nearest_value(const context_rep* rep) noexcept {
  if (rep == nullptr || rep->key != nullptr) return rep;
  return rep->outer;
}

}  // namespace

void context_rep::release() const noexcept {
  // Iterative: there is no bound on how many values a chain has.
  for (const context_rep* rep = this; rep != nullptr && rep->drop();) {
    const context_rep* const next = rep->outer;
    rep->destroy(rep);
    rep = next;
  }
}

void inherit(context_rep& rep, const context& parent) noexcept {
  const context_rep* const from = context_access::rep(parent);
  if (from == nullptr) return;
  rep.deadline = from->deadline;
  rep.outer = nearest_value(from);
  if (rep.outer != nullptr) rep.outer->add_ref();
}

namespace {

context made_of(context_rep* rep, void (*destroy)(const context_rep*) noexcept,
                const context& parent, ref_ptr<cancel_node> node, const char* name,
                clock::time_point deadline) {
  rep->name = name;
  rep->destroy = destroy;
  rep->node = std::move(node);
  inherit(*rep, parent);
  rep->deadline = std::min(rep->deadline, deadline);
  return context_access::adopt(rep);
}

// Of a node that was made with room for what the context refers to.
context make_in_node(const context& parent, ref_ptr<cancel_node> node, const char* name,
                     clock::time_point deadline = no_deadline) {
  static_assert(alignof(context_rep) <= alignof(cancel_node));
  auto* const rep = new (node->room()) context_rep;
  return made_of(rep, &destroy_in_node, parent, std::move(node), name, deadline);
}

}  // namespace

context make_context(const context& parent, ref_ptr<cancel_node> node, const char* name,
                     clock::time_point deadline) {
  return made_of(new context_rep, &destroy_plain, parent, std::move(node), name, deadline);
}

}  // namespace detail

using detail::cancel_node;
using detail::context_rep;
using detail::node_of;
using detail::ref_ptr;

context context::todo() noexcept {
  // Its first reference is never dropped.
  static const context_rep* const rep = [] {
    auto* const made = new context_rep;
    made->name = "todo";
    made->destroy = &detail::destroy_plain;
    return made;
  }();
  return context{ref_ptr<const context_rep>::share(rep)};
}

void context::wait() const noexcept {
  if (cancel_node* const node = node_of(*this)) return node->wait();
  detail::park_forever(detail::wait_reason::context);
}

error context::reason() const noexcept { return rep_->node->reason(); }

const void* context::find(const void* key) const noexcept {
  const context_rep* rep = detail::nearest_value(rep_.get());
  while (rep != nullptr && rep->key != key) rep = rep->outer;
  return rep == nullptr ? nullptr : rep->value;
}

cancel_func& cancel_func::operator=(cancel_func&& other) noexcept {
  if (this != &other) {
    (*this)();
    node_ = std::move(other.node_);
  }
  return *this;
}

void cancel_func::operator()() const noexcept {
  detail::step("cancel", node_.get());
  // Called at least twice, as a rule: by its owner, and by its destructor.
  if (!node_ || node_->settled()) return;
  const error why = errc::canceled;
  node_->cancel(why, why);
}

void cancel_cause_func::operator()(const error& cause) const noexcept {
  detail::step("cancel", node_.get());
  if (node_) node_->cancel(errc::canceled, cause);
}

with_cancel_result with_cancel(const context& parent) {
  ref_ptr<cancel_node> node = cancel_node::make(node_of(parent), sizeof(context_rep));
  context ctx = detail::make_in_node(parent, node, "with_cancel");
  return {std::move(ctx), cancel_func{std::move(node)}};
}

with_cancel_cause_result with_cancel_cause(const context& parent) {
  ref_ptr<cancel_node> node = cancel_node::make(node_of(parent), sizeof(context_rep));
  context ctx = detail::make_in_node(parent, node, "with_cancel");
  return {std::move(ctx), cancel_cause_func{std::move(node)}};
}

namespace {

with_cancel_result make_timed(const context& parent, clock::time_point when, const error& cause,
                              clock::time_point now) {
  const std::optional<clock::time_point> sooner = parent.deadline();
  if (sooner && *sooner <= when) return with_cancel(parent);
  ref_ptr<cancel_node> node =
      cancel_node::make(node_of(parent), when, cause, sizeof(context_rep), now);
  context ctx = detail::make_in_node(parent, node, "with_deadline", when);
  return {std::move(ctx), cancel_func{std::move(node)}};
}

}  // namespace

with_cancel_result with_deadline(const context& parent, clock::time_point when) {
  return make_timed(parent, when, errc::deadline_exceeded, clock::now());
}

with_cancel_result with_deadline_cause(const context& parent, clock::time_point when,
                                       const error& cause) {
  return make_timed(parent, when, cause, clock::now());
}

with_cancel_result with_timeout(const context& parent, clock::duration d) {
  return with_timeout_cause(parent, d, errc::deadline_exceeded);
}

with_cancel_result with_timeout_cause(const context& parent, clock::duration d,
                                      const error& cause) {
  const clock::time_point now = clock::now();
  return make_timed(parent, deadline_after(now, d), cause, now);
}

context without_cancel(const context& parent) {
  auto* const rep = new context_rep;
  rep->name = "without_cancel";
  rep->destroy = &detail::destroy_plain;
  detail::inherit(*rep, parent);
  rep->deadline = no_deadline;
  return detail::context_access::adopt(rep);
}

}  // namespace exeunt
