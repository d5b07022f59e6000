// SPDX-License-Identifier: Apache-2.0
// A component that ends when and how it is told: to see what becomes of the others.

#pragma once

#include <exeunt/chan/chan.hpp>
#include <exeunt/context/context.hpp>

namespace service {

class crasher {
 public:
  enum class way { throws, fails, returns };

  /// Waits for an order, or for the end of `ctx`.
  exeunt::result<> run(const exeunt::context& ctx);

  /// Makes run() end. The first order counts.
  void order(way how);

 private:
  exeunt::chan<way> orders_{1};
};

}  // namespace service
