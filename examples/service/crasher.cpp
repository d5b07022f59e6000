// SPDX-License-Identifier: Apache-2.0

#include "crasher.hpp"

#include <stdexcept>

namespace service {

namespace ex = exeunt;

ex::result<> crasher::run(const ex::context& ctx) {
  const ex::result<way> how = orders_.recv(ctx);
  if (!how) return {};  // The others stop.
  switch (*how) {
    case way::throws:
      throw std::runtime_error{"crasher: told to crash"};
    case way::fails:
      return ex::fail(ex::errc::panic, "crasher: told to fail");
    case way::returns:
      break;
  }
  return {};
}

void crasher::order(way how) { static_cast<void>(orders_.try_send(how)); }

}  // namespace service
