// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, with threads and std::atomic<std::shared_ptr>.

#include <atomic>
#include <memory>

#include "on_threads.hpp"

namespace {

struct shared_pointer {
  struct reader {};
  long number() const { return value.load()->number; }
  void store(long n) { value.store(std::make_shared<const rivals::config>(n)); }
  std::atomic<std::shared_ptr<const rivals::config>> value{
      std::make_shared<const rivals::config>()};
};

}  // namespace

int main(int argc, char** argv) { return rivals::look_on_threads<shared_pointer>(argc, argv); }
