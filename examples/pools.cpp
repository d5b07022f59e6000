// SPDX-License-Identifier: Apache-2.0
// Buffers from a pool: what is costly to make is kept for whoever needs one next.
#include <exeunt/exeunt.hpp>

#include <cstdio>
#include <string>
#include <vector>

namespace ex = exeunt;

namespace {

// [pool]
/// Room to put a page together in. What a large page has made of one is not kept.
ex::pool<std::string> pages{{
    .make =
        [] {
          std::string room;
          room.reserve(16 * 1024);
          return room;
        },
    .reset =
        [](std::string& page) {
          page.clear();
          if (page.capacity() > 256 * 1024) page = {};
        },
}};
// [pool]

// [get]
std::size_t render(const std::vector<std::string>& names) {
  const auto page = pages.get();  // Goes back at the end of the function, whatever happens.
  for (const std::string& name : names) page->append("<li>").append(name).append("</li>\n");
  return page->size();
}
// [get]

}  // namespace

int main() {
  return ex::run([] {
    ex::wait_group group;
    for (int i = 0; i < 100; ++i) {
      group.go([] {
        if (render({"Ada", "Grace", "Barbara"}) != 45) std::puts("a page went wrong");
      });
    }
    group.wait();
    std::printf("100 pages; %s\n", pages.idle() > 0 ? "their room is kept" : "nothing is kept");
    pages.trim();
  });
}
