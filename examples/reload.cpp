// SPDX-License-Identifier: Apache-2.0
// A configuration that is read by each request, and read anew from its file at SIGHUP, while
// requests that have begun go on with the one they began with.
//
// Try:  build/release/examples/reload

#include <unistd.h>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>

#include <exeunt/exeunt.hpp>
#include <exeunt/sync/atomic_value.hpp>

namespace ex = exeunt;

namespace {

// [config]
struct config {
  std::string greeting;
  int version = 0;
};

/// What all requests read, and few replace.
ex::atomic_value<config> current;

ex::result<config> read_config(const std::string& path) {
  std::ifstream file{path};
  config read;
  if (!(file >> read.version >> read.greeting)) return ex::fail(ex::errc::malformed);
  return read;
}
// [config]

// [request]
/// One request, which waits for `more` in its middle.
std::string answer(const std::string& name, const ex::chan<int>& more) {
  const auto conf = current.load();  // One look; all of the request sees the same configuration.
  std::string text = conf->greeting + " " + name;
  static_cast<void>(more.recv());  // The worker goes on with others, and there may be a reload.
  return text + ", by version " + std::to_string(conf->version);
}
// [request]

// [reload]
/// Reads the file again at each SIGHUP, until `ctx` ends. `done` gets each version.
void reload(const ex::context& ctx, const std::string& path, const ex::chan<int>& hangups,
            const ex::chan<int>& done) {
  while (hangups.recv(ctx)) {
    ex::result<config> next = read_config(path);
    if (next) {
      current.store(*std::move(next));
    } else {  // What was there serves on.
      std::printf("reload: %s\n", next.error().message().c_str());
    }
    done.send(current.load()->version);
  }
}
// [reload]

void write_file(const std::string& path, const char* text) { std::ofstream{path} << text; }

}  // namespace

int main() {
  return ex::run([] {
    const std::string path = "/tmp/exeunt-reload-" + std::to_string(::getpid());
    write_file(path, "1 hello");
    current.store(*read_config(path));

    const ex::chan<int> hangups{1};
    const ex::chan<int> done;
    // [subscribe]
    const auto subscription = ex::signal::notify(hangups, {SIGHUP});
    const auto reloader =
        ex::spawn([&](const ex::context& ctx) { reload(ctx, path, hangups, done); });
    // [subscribe]

    const ex::chan<int> more;
    const ex::chan<std::string> answers{2};
    ex::go([&] { answers.send(answer("ada", more)); });
    ex::yield();

    write_file(path, "2 welcome");
    ::kill(::getpid(), SIGHUP);
    bool right = done.recv() == 2;
    ex::go([&] { answers.send(answer("grace", more)); });
    more.send(0);
    more.send(0);
    for (int i = 0; i < 2; ++i) std::printf("%s\n", answers.recv()->c_str());

    write_file(path, "nonsense");
    ::kill(::getpid(), SIGHUP);
    right = right && done.recv() == 2;

    // [update]
    current.update([](config& copy) { copy.greeting += " again"; });
    // [update]
    right = right && current.load()->greeting == "welcome again";

    static_cast<void>(::unlink(path.c_str()));
    return right ? EXIT_SUCCESS : EXIT_FAILURE;
  });
}
