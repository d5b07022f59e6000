// SPDX-License-Identifier: Apache-2.0
// The router's table: a tree of segments for each host and method.
//
// Invariants:
//   I1  A table never changes once it is published. Registering takes it back, and the next
//       look-up publishes a new one: there are as many as there were look-ups in between.
//   I2  No two patterns of a table conflict, so the first match of a search that tries literals
//       before `{name}` before `{name...}` is the most specific.
//   I3  Tables live as long as the router, so that a request may use one without counting.
// Locks: lock_ orders registrations; of look-ups only the first after one takes it.
// Tests: tests/http/router_test.cpp, allocation_test.cpp.

#include <exeunt/http/router.hpp>

#include <algorithm>
#include <cctype>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include <exeunt/base/atomic.hpp>
#include <exeunt/http/request.hpp>
#include <exeunt/http/response.hpp>
#include <exeunt/sync/mutex.hpp>

#include "http/pattern.hpp"

namespace exeunt::http {

namespace {

struct route {
  http::pattern pattern;
  http::handler handler;
  std::source_location where;
};

std::string place(const std::source_location& where) {
  return std::string{where.file_name()} + ":" + std::to_string(where.line());
}

// What a path matched: the route, and the decoded parts for its wildcards in order.
struct match {
  const route* found = nullptr;
  std::vector<std::string> values;
};

using path_parts = std::vector<std::string>;

// A step of the tree: what may come next in a path.
class node {
 public:
  void add(const route& r, std::size_t depth) {
    if (depth == r.pattern.segments.size()) {
      end_ = &r;
      return;
    }
    const segment& s = r.pattern.segments[depth];
    switch (s.kind) {
      case segment::kind::literal:
        literals_[s.text].add(r, depth + 1);
        return;
      case segment::kind::one:
        if (one_ == nullptr) one_ = std::make_unique<node>();
        one_->add(r, depth + 1);
        return;
      case segment::kind::rest:
        rest_ = &r;
        return;
    }
  }

  const route* find(const path_parts& parts, std::size_t depth) const {
    if (depth == parts.size()) return end_;
    if (const auto literal = literals_.find(parts[depth]); literal != literals_.end()) {
      if (const route* const found = literal->second.find(parts, depth + 1)) return found;
    }
    if (one_ != nullptr && parts[depth] != trailing_slash) {
      if (const route* const found = one_->find(parts, depth + 1)) return found;
    }
    return rest_;
  }

  static constexpr std::string_view trailing_slash = "/";

 private:
  std::map<std::string, node, std::less<>> literals_;
  std::unique_ptr<node> one_;
  const route* rest_ = nullptr;
  const route* end_ = nullptr;
};

using methods = std::map<std::string, node, std::less<>>;

struct table {
  std::map<std::string, methods, std::less<>> hosts;

  const methods* of_host(std::string_view host) const {
    const auto found = hosts.find(host);
    return found == hosts.end() ? nullptr : &found->second;
  }
};

const route* find_in(const methods& trees, std::string_view method, const path_parts& parts) {
  const auto look = [&](std::string_view name) -> const route* {
    const auto tree = trees.find(name);
    return tree == trees.end() ? nullptr : tree->second.find(parts, 0);
  };
  if (const route* const own = look(method)) return own;
  if (method == "HEAD") {
    if (const route* const get = look("GET")) return get;
  }
  return look("");
}

void collect_methods(const methods& trees, const path_parts& parts, std::set<std::string>& into) {
  for (const auto& [method, tree] : trees) {
    if (method.empty() || tree.find(parts, 0) == nullptr) continue;
    into.insert(method);
    if (method == "GET") into.insert("HEAD");
  }
}

std::string_view without_port(std::string_view host) noexcept {
  const auto colon = host.rfind(':');
  if (colon == host.npos || host.substr(colon).contains(']')) return host;
  return host.substr(0, colon);
}

std::string lower(std::string_view text) {
  std::string copy{text};
  std::ranges::transform(copy, copy.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return copy;
}

// Where to send a client whose path is another; the query goes along.
std::string with_query(std::string path, const request& req) {
  if (req.target().contains('?')) path.append("?").append(req.query());
  return path;
}

}  // namespace

class router::registry {
 public:
  void add(std::string_view source, handler h, std::source_location where) {
    if (!h) throw panic_error{"http::router: an empty handler for \"" + std::string{source} + "\""};
    auto parsed = pattern::parse(source);
    if (!parsed) throw panic_error{"http::router: " + parsed.error().message()};
    const std::lock_guard guard{lock_};
    for (const auto& other : all_) {
      if (!conflict(*parsed, other->pattern)) continue;
      throw panic_error{"http::router: pattern \"" + parsed->source + "\" (" + place(where) +
                        ") conflicts with \"" + other->pattern.source + "\" (" +
                        place(other->where) +
                        "): both match some request, and neither is more specific"};
    }
    all_.push_back(std::make_unique<route>(std::move(*parsed), std::move(h), where));
    // order: release; whoever registered has told others of it by other means, if at all.
    now_.store(nullptr, detail::memory_order_release);
  }

  const table& now() {
    // order: acquire, pairs with publish().
    if (const table* const ready = now_.load(detail::memory_order_acquire)) return *ready;
    const std::lock_guard guard{lock_};
    // order: relaxed; lock_ is held by whoever stores.
    if (now_.load(detail::memory_order_relaxed) == nullptr) publish();
    return *tables_.back();
  }

 private:
  void publish() {
    auto made = std::make_unique<table>();
    for (const auto& r : all_) made->hosts[r->pattern.host][r->pattern.method].add(*r, 0);
    tables_.push_back(std::move(made));
    // order: release publishes the finished table to look-ups.
    now_.store(tables_.back().get(), detail::memory_order_release);
  }

  mutex lock_;
  std::vector<std::unique_ptr<route>> all_;
  std::vector<std::unique_ptr<table>> tables_;
  detail::atomic<const table*> now_{nullptr};
};

router::router() : routes_{std::make_shared<registry>()} {}

router& router::handle(std::string_view pattern, handler h, std::source_location where) {
  routes_->add(pattern, std::move(h), where);
  return *this;
}

result<> router::operator()(request& req, response& res) const {
  const table& routes = routes_->now();
  const std::string_view raw = req.path();
  if (raw != "*") {
    if (std::string clean = clean_path(raw); !clean.empty()) {
      res.redirect(301, with_query(std::move(clean), req));
      return {};
    }
  }

  std::vector<std::string_view> raw_parts;
  split_path(raw, raw_parts);
  path_parts parts;
  parts.reserve(raw_parts.size() + 1);
  for (const std::string_view part : raw_parts) {
    auto decoded = percent_decode(part);
    if (!decoded) return fail(errc::malformed, "the path has a '%' without two hex digits");
    // Only a real trailing slash counts as one; an escaped one is text.
    if (*decoded == node::trailing_slash && part != node::trailing_slash) *decoded = "%2F";
    parts.push_back(std::move(*decoded));
  }

  const methods* const own = routes.of_host(lower(without_port(req.host())));
  const methods* const general = routes.of_host("");
  const auto find = [&]() -> const route* {
    for (const methods* const trees : {own, general}) {
      if (trees == nullptr) continue;
      if (const route* const found = find_in(*trees, req.method(), parts)) return found;
    }
    return nullptr;
  };

  const route* const found = find();
  if (found == nullptr) {
    if (parts.empty() || parts.back() != node::trailing_slash) {
      parts.emplace_back(node::trailing_slash);
      const bool as_directory = find() != nullptr;
      parts.pop_back();
      if (as_directory) {
        res.redirect(307, with_query(std::string{raw} + "/", req));
        return {};
      }
    }
    std::set<std::string> allowed;
    for (const methods* const trees : {own, general}) {
      if (trees != nullptr) collect_methods(*trees, parts, allowed);
    }
    if (allowed.empty()) {
      res.error(404, "not found");
      return {};
    }
    std::string list;
    for (const std::string& method : allowed) list.append(list.empty() ? "" : ", ").append(method);
    res.error(405, "method not allowed");
    res.header("Allow", list);
    return {};
  }

  const auto& segments = found->pattern.segments;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].kind == segment::kind::one) {
      req.set_path_value(segments[i].text,
                         parts[i] == "%2F" && raw_parts[i] != "%252F" ? "/" : parts[i]);
    } else if (segments[i].kind == segment::kind::rest && !segments[i].text.empty()) {
      std::string_view rest = raw;
      for (std::size_t k = 0; k < i; ++k) rest.remove_prefix(1 + raw_parts[k].size());
      rest.remove_prefix(1);
      auto decoded = percent_decode(rest);
      req.set_path_value(segments[i].text, decoded ? std::move(*decoded) : std::string{rest});
    }
  }
  return found->handler(req, res);
}

}  // namespace exeunt::http
