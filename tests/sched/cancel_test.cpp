// SPDX-License-Identifier: Apache-2.0
// The cancellation tree itself; contexts are tested in tests/context.

#include <exeunt/sched/cancel.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

#include <exeunt/sched/go.hpp>

#include "support/on_workers.hpp"

namespace exeunt::detail {
namespace {

using namespace std::chrono_literals;
using node_ptr = ref_ptr<cancel_node>;

class cancel_test : public exeunt::test::on_workers {};

constexpr int deep = 100'000;

struct counting_callback : cancel_callback {
  counting_callback() {
    call = [](cancel_callback& self) noexcept { ++static_cast<counting_callback&>(self).count; };
  }
  int count = 0;
};

TEST(cancel_node, first_cancel_wins) {
  const node_ptr node = cancel_node::make(nullptr);
  EXPECT_FALSE(node->canceled());
  EXPECT_TRUE(node->cancel(errc::canceled, errc::closed));
  EXPECT_FALSE(node->cancel(errc::deadline_exceeded, errc::malformed));
  EXPECT_EQ(node->reason(), error{errc::canceled});
  EXPECT_EQ(node->cause(), error{errc::closed});
}

TEST(cancel_node, ends_below_and_never_above) {
  const node_ptr root = cancel_node::make(nullptr);
  const node_ptr left = cancel_node::make(root.get());
  const node_ptr right = cancel_node::make(root.get());
  const node_ptr leaf = cancel_node::make(left.get());
  left->cancel(errc::canceled, errc::closed);
  EXPECT_TRUE(leaf->canceled());
  EXPECT_EQ(leaf->cause(), error{errc::closed});
  EXPECT_FALSE(root->canceled());
  EXPECT_FALSE(right->canceled());
  EXPECT_EQ(root->child_count(), 1U);
  EXPECT_EQ(left->child_count(), 0U);
}

TEST(cancel_node, made_below_an_ended_one_is_ended) {
  const node_ptr root = cancel_node::make(nullptr);
  root->cancel(errc::deadline_exceeded, errc::closed);
  const node_ptr late = cancel_node::make(root.get());
  ASSERT_TRUE(late->canceled());
  EXPECT_EQ(late->reason(), error{errc::deadline_exceeded});
  EXPECT_EQ(late->cause(), error{errc::closed});
  EXPECT_EQ(root->child_count(), 0U);
}

// A child that nobody can end any more must not stay in its parent's list.
TEST(cancel_node, last_handle_leaves_the_parent) {
  const node_ptr root = cancel_node::make(nullptr);
  for (int i = 0; i < 10; ++i) {
    const node_ptr child = cancel_node::make(root.get());
    EXPECT_EQ(root->child_count(), 1U);
  }
  EXPECT_EQ(root->child_count(), 0U);
}

TEST(cancel_node, detach_keeps_the_node_live) {
  const node_ptr root = cancel_node::make(nullptr);
  const node_ptr child = cancel_node::make(root.get());
  child->detach();
  child->detach();
  EXPECT_EQ(root->child_count(), 0U);
  root->cancel(errc::canceled, errc::canceled);
  EXPECT_FALSE(child->canceled());
}

// Neither the cancel nor the release of a chain may recurse: a fiber's stack is small.
TEST_P(cancel_test, deep_chain_is_ended_and_released_without_recursion) {
  run([] {
    const node_ptr root = cancel_node::make(nullptr);
    node_ptr leaf = root;
    for (int i = 0; i < deep; ++i) leaf = cancel_node::make(leaf.get());
    EXPECT_FALSE(leaf->canceled());
    root->cancel(errc::canceled, errc::canceled);
    EXPECT_TRUE(leaf->canceled());
    EXPECT_EQ(root->child_count(), 0U);
  });
}

TEST_P(cancel_test, deep_chain_is_released_while_live) {
  run([] {
    node_ptr leaf = cancel_node::make(nullptr);
    for (int i = 0; i < deep; ++i) leaf = cancel_node::make(leaf.get());
    leaf = nullptr;
  });
}

// The worst order: every cancel finds a chain below that has ended.
TEST_P(cancel_test, deep_chain_is_ended_from_the_leaf_up) {
  run([] {
    std::vector<node_ptr> chain{cancel_node::make(nullptr)};
    for (int i = 0; i < deep; ++i) chain.push_back(cancel_node::make(chain.back().get()));
    for (auto node = chain.rbegin(); node != chain.rend(); ++node) {
      EXPECT_TRUE((*node)->cancel(errc::canceled, errc::canceled));
    }
  });
}

TEST_P(cancel_test, wide_tree_is_ended_in_one_go) {
  run([] {
    const node_ptr root = cancel_node::make(nullptr);
    std::vector<node_ptr> leaves;
    for (int i = 0; i < deep; ++i) leaves.push_back(cancel_node::make(root.get()));
    EXPECT_EQ(root->child_count(), leaves.size());
    root->cancel(errc::canceled, errc::canceled);
    for (const node_ptr& leaf : leaves) EXPECT_TRUE(leaf->canceled());
    EXPECT_EQ(root->child_count(), 0U);
  });
}

TEST(cancel_callback, is_called_once_or_removed) {
  const node_ptr node = cancel_node::make(nullptr);
  counting_callback called;
  counting_callback removed;
  ASSERT_TRUE(node->add_callback(called));
  ASSERT_TRUE(node->add_callback(removed));
  EXPECT_TRUE(node->remove_callback(removed));
  EXPECT_FALSE(node->remove_callback(removed));
  node->cancel(errc::canceled, errc::canceled);
  EXPECT_FALSE(node->remove_callback(called));
  EXPECT_EQ(called.count, 1);
  EXPECT_EQ(removed.count, 0);
  EXPECT_FALSE(node->add_callback(removed));
  EXPECT_EQ(removed.count, 0);
}

// I4: whoever is told of the end finds the whole tree ended.
TEST(cancel_callback, runs_when_all_below_has_ended) {
  struct looking_callback : cancel_callback {
    looking_callback() {
      call = [](cancel_callback& self) noexcept {
        auto& me = static_cast<looking_callback&>(self);
        me.found_ended = me.leaf->canceled();
      };
    }
    node_ptr leaf;
    bool found_ended = false;
  };
  const node_ptr root = cancel_node::make(nullptr);
  const node_ptr middle = cancel_node::make(root.get());
  looking_callback looking;
  looking.leaf = cancel_node::make(middle.get());
  ASSERT_TRUE(root->add_callback(looking));
  root->cancel(errc::canceled, errc::canceled);
  EXPECT_TRUE(looking.found_ended);
}

TEST(cancel_callback, shared_one_belongs_to_the_node) {
  static int freed = 0;
  struct owned : cancel_callback {
    owned() {
      call = [](cancel_callback&) noexcept {};
      destroy = [](cancel_callback* self) noexcept {
        delete static_cast<owned*>(self);
        ++freed;
      };
    }
  };
  node_ptr node = cancel_node::make(nullptr);
  auto* const first = new owned;
  owned second;
  EXPECT_EQ(node->share_callback(first), first);
  EXPECT_EQ(node->share_callback(&second), first);
  node = nullptr;
  EXPECT_EQ(freed, 1);

  node = cancel_node::make(nullptr);
  node->cancel(errc::canceled, errc::canceled);
  EXPECT_EQ(node->share_callback(&second), nullptr);
}

TEST_P(cancel_test, wakes_all_who_wait) {
  run([] {
    const node_ptr root = cancel_node::make(nullptr);
    const node_ptr leaf = cancel_node::make(root.get());
    atomic<int> woken{0};
    constexpr int count = 100;  // More than are woken in one hold of the lock.
    for (int i = 0; i < count; ++i) {
      go([&woken, node = i % 2 == 0 ? root : leaf] {
        node->wait();
        ++woken;
      });
    }
    yield();
    EXPECT_EQ(woken, 0);
    root->cancel(errc::canceled, errc::canceled);
    while (woken < count) yield();
  });
}

TEST_P(cancel_test, ends_a_shared_wait) {
  run([] {
    const node_ptr node = cancel_node::make(nullptr);
    const node_ptr other = cancel_node::make(nullptr);
    go([node] { node->cancel(errc::canceled, errc::canceled); });
    ticket several;
    waiter on_node{several};
    waiter on_other{several};
    ASSERT_TRUE(other->add_waiter(on_other));
    if (node->add_waiter(on_node)) {
      park(several, wait_reason::context, node.get());  // Woken by: the fiber above.
      node->remove_waiter(on_node);
      EXPECT_TRUE(on_node.won());
    }
    other->remove_waiter(on_other);
    EXPECT_TRUE(node->canceled());
  });
}

TEST(cancel_node, plain_thread_waits) {
  const node_ptr node = cancel_node::make(nullptr);
  std::thread waits{[node] { node->wait(); }};
  node->cancel(errc::canceled, errc::canceled);
  waits.join();
  EXPECT_TRUE(node->canceled());
}

TEST_P(cancel_test, deadline_ends_a_node) {
  run([] {
    const node_ptr node = cancel_node::make(nullptr, clock::now() + 1ms, errc::closed);
    node->wait();
    EXPECT_EQ(node->reason(), error{errc::deadline_exceeded});
    EXPECT_EQ(node->cause(), error{errc::closed});
  });
}

TEST_P(cancel_test, past_deadline_ends_a_node_at_once) {
  run([] {
    const node_ptr root = cancel_node::make(nullptr);
    const node_ptr node = cancel_node::make(root.get(), clock::now(), errc::closed);
    ASSERT_TRUE(node->canceled());
    EXPECT_EQ(node->reason(), error{errc::deadline_exceeded});
    EXPECT_EQ(root->child_count(), 0U);
  });
}

// The firing hands a tree to a fiber; all that hang on it must hear of it.
TEST_P(cancel_test, deadline_ends_a_tree) {
  run([] {
    const node_ptr root = cancel_node::make(nullptr);
    const node_ptr timed = cancel_node::make(root.get(), clock::now() + 5ms, errc::closed);
    std::vector<node_ptr> leaves;
    for (int i = 0; i < 200; ++i) {
      // Timers below must be stopped, by somebody who does not hold the timers' lock.
      leaves.push_back(i % 2 == 0
                           ? cancel_node::make(timed.get())
                           : cancel_node::make(timed.get(), clock::now() + 1h, errc::malformed));
    }
    for (const node_ptr& leaf : leaves) {
      leaf->wait();
      EXPECT_EQ(leaf->cause(), error{errc::closed});
    }
    while (root->child_count() != 0) yield();
  });
}

// I4, by a deadline: the waiter is not woken before what is below has ended.
TEST_P(cancel_test, deadline_ends_what_is_below_before_it_wakes) {
  run([] {
    for (int round = 0; round < 100; ++round) {
      const node_ptr timed = cancel_node::make(nullptr, clock::now() + 200us, errc::closed);
      const node_ptr below = cancel_node::make(timed.get());
      // Not by wait(), which looks before it parks: an end is seen before it has spread.
      ticket one;
      waiter told{one};
      if (!timed->add_waiter(told)) continue;
      park(one, wait_reason::context, timed.get());  // Woken by: the deadline.
      timed->remove_waiter(told);
      EXPECT_TRUE(below->canceled());
    }
  });
}

// Many nodes whose last handle goes while the timer fires.
TEST_P(cancel_test, handle_may_go_while_the_timer_fires) {
  run([] {
    for (int round = 0; round < 300; ++round) {
      std::vector<node_ptr> nodes;
      const clock::time_point when = clock::now() + 50us;
      for (int i = 0; i < 20; ++i) nodes.push_back(cancel_node::make(nullptr, when, errc::closed));
      while (clock::now() < when) yield();
      nodes.clear();
    }
  });
}

TEST_P(cancel_test, cancel_races_with_the_timer) {
  run([] {
    for (int round = 0; round < 1000; ++round) {
      const clock::time_point when = clock::now() + 20us;
      const node_ptr node = cancel_node::make(nullptr, when, errc::closed);
      while (clock::now() < when) yield();
      const bool by_us = node->cancel(errc::canceled, errc::canceled);
      ASSERT_TRUE(node->canceled());
      EXPECT_EQ(node->reason(), by_us ? error{errc::canceled} : error{errc::deadline_exceeded});
    }
  });
}

// X1, for a cancel that comes second, too; explored in tests/sim/covered_test.cpp.
TEST_P(cancel_test, second_cancel_finds_all_below_ended) {
  run([] {
    for (int round = 0; round < 500; ++round) {
      const node_ptr root = cancel_node::make(nullptr);
      const node_ptr middle = cancel_node::make(root.get());
      std::vector<node_ptr> leaves;
      for (int i = 0; i < 40; ++i) leaves.push_back(cancel_node::make(middle.get()));
      atomic<int> running{4};
      for (const node_ptr& by : {root, middle, root, middle}) {
        go([&, by] {
          by->cancel(errc::canceled, errc::canceled);
          for (const node_ptr& leaf : leaves) EXPECT_TRUE(leaf->canceled());
          --running;
        });
      }
      while (running != 0) yield();
    }
  });
}

// Making, ending, and dropping below a root that ends at any moment.
TEST_P(cancel_test, children_come_and_go_while_the_root_ends) {
  run([] {
    for (int round = 0; round < 100; ++round) {
      const node_ptr root = cancel_node::make(nullptr);
      atomic<int> done{0};
      constexpr int makers = 4;
      for (int m = 0; m < makers; ++m) {
        go([root, m, &done] {
          std::vector<node_ptr> kept;
          for (int i = 0; i < 50; ++i) {
            node_ptr child = cancel_node::make(root.get());
            if (i % 3 == 0) child->cancel(errc::canceled, errc::canceled);
            if (i % 3 == 1) kept.push_back(cancel_node::make(child.get()));
            if (i % 16 == m) yield();
          }
          root->wait();
          // The root's end is seen before it has spread; each node's own end must come.
          for (const node_ptr& node : kept) node->wait();
          kept.clear();
          ++done;
        });
      }
      yield();
      root->cancel(errc::canceled, errc::closed);
      while (done < makers) yield();
      EXPECT_EQ(root->child_count(), 0U);
    }
  });
}

EXEUNT_ON_WORKERS(cancel_test);

}  // namespace
}  // namespace exeunt::detail
