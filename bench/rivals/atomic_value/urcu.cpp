// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, with threads and liburcu, whose readers are threads that have registered and may
// not wait for anything while they look.

#define _LGPL_SOURCE  // A reader's functions inline, which is its fastest form.
#include <urcu.h>

#include "on_threads.hpp"

namespace {

struct rcu {
  struct reader {
    reader() { rcu_register_thread(); }
    ~reader() { rcu_unregister_thread(); }
    reader(const reader&) = delete;
    reader& operator=(const reader&) = delete;
  };
  rcu() = default;
  rcu(const rcu&) = delete;
  rcu& operator=(const rcu&) = delete;
  ~rcu() { delete value; }
  long number() const {
    rcu_read_lock();
    const long number = rcu_dereference(value)->number;
    rcu_read_unlock();
    return number;
  }
  void store(long n) {
    rivals::config* const old = rcu_xchg_pointer(&value, new rivals::config{.number = n});
    synchronize_rcu();
    delete old;
  }
  rivals::config* value = new rivals::config;
};

}  // namespace

int main(int argc, char** argv) { return rivals::look_on_threads<rcu>(argc, argv); }
