// SPDX-License-Identifier: Apache-2.0
// The handle of a server.

#include <exeunt/http/server.hpp>

#include <utility>

#include "http/core.hpp"

namespace exeunt::http {

server::server(config options) : core_{new detail::http_core{std::move(options)}} {}

server::~server() {
  core_->close();
  core_->release();
}

result<> server::listen(const context& ctx) { return core_->listen(ctx); }
result<> server::listen() { return core_->listen(context::background()); }
net::address server::address() const { return core_->address(); }
result<> server::serve(const context& ctx) { return core_->serve(ctx); }
result<> server::shutdown(const context& ctx) { return core_->shutdown(ctx); }
void server::close() noexcept { core_->close(); }
void server::on_shutdown(unique_function<void()> f) { core_->on_shutdown(std::move(f)); }
bool server::draining() const noexcept { return core_->stopping(); }
std::vector<std::string> server::in_flight() const { return core_->in_flight(); }
std::size_t server::connections() const noexcept { return core_->connections(); }
std::uint64_t server::panics() const noexcept {
  return core_->panics.load(detail::memory_order_relaxed);  // order: relaxed; a count.
}

}  // namespace exeunt::http
