// SPDX-License-Identifier: Apache-2.0
// Everything, for programs. Libraries had better include the headers they use.
//
// What is declared is not yet linked: exeunt::core has the first block, exeunt::net, exeunt::http
// and exeunt::app have one more each.

#pragma once

#include <chrono>
#include <csignal>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/base/log.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/chan/selector.hpp>
#include <exeunt/context/after_func.hpp>
#include <exeunt/context/blocking.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/context/stop_token.hpp>
#include <exeunt/group/errgroup.hpp>
#include <exeunt/group/first_of.hpp>
#include <exeunt/group/parallel_for_each.hpp>
#include <exeunt/group/spawn.hpp>
#include <exeunt/os/signal.hpp>
#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/fiber_local.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/os_thread.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/atomic_value.hpp>
#include <exeunt/sync/basic_mutex.hpp>
#include <exeunt/sync/condition_variable.hpp>
#include <exeunt/sync/lock_order.hpp>
#include <exeunt/sync/map.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/once.hpp>
#include <exeunt/sync/pool.hpp>
#include <exeunt/sync/queue.hpp>
#include <exeunt/sync/rate_limiter.hpp>
#include <exeunt/sync/read_mostly_mutex.hpp>
#include <exeunt/sync/semaphore.hpp>
#include <exeunt/sync/shared_mutex.hpp>
#include <exeunt/sync/singleflight.hpp>
#include <exeunt/sync/wait_group.hpp>
#include <exeunt/time/sleep.hpp>
#include <exeunt/time/timer.hpp>

#include <exeunt/net/address.hpp>
#include <exeunt/net/conn.hpp>
#include <exeunt/net/listener.hpp>
#include <exeunt/net/stream.hpp>

#include <exeunt/http/request.hpp>
#include <exeunt/http/response.hpp>
#include <exeunt/http/router.hpp>
#include <exeunt/http/server.hpp>

#include <exeunt/app/debug.hpp>
