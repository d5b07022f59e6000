// SPDX-License-Identifier: Apache-2.0
// Replays the fuzz corpus, and the cases' requests with seeded damage, through the fuzz target.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "support/http1_cases.hpp"
#include "support/http1_record.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace exeunt::http1 {
namespace {

void run_target(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

TEST(http1_corpus, is_digested) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator{EXEUNT_HTTP1_TESTS "/corpus"}) {
    std::ifstream in{entry.path(), std::ios::binary};
    run_target({std::istreambuf_iterator<char>{in}, {}});
    ++count;
  }
  EXPECT_GE(count, 20u);
}

// Goal:   damage is refused or read the same however the input is cut. The target aborts if not.
// Method: in each case's request, change, drop, double or insert a few bytes; the bytes that mean
//         something to the parser are inserted most.
TEST(http1_corpus, survives_damaged_cases) {
  constexpr std::string_view telling{"\r\n\t :;,=0aF\0\x7f\xff", 15};
  seeded random{7};
  for (const wire_case& one : load_cases(EXEUNT_HTTP1_TESTS "/cases")) {
    if (one.request.size() > 1'000) continue;
    for (int round = 0; round < 100; ++round) {
      std::string bytes = static_cast<char>(random.below(256)) + one.request;
      for (std::uint64_t change = 0, changes = 1 + random.below(3); change < changes; ++change) {
        const std::size_t at = 1 + random.below(bytes.size() - 1);
        const char c = telling[random.below(telling.size())];
        switch (random.below(4)) {
          case 0:
            bytes[at] = c;
            break;
          case 1:
            bytes.insert(at, 1, c);
            break;
          case 2:
            bytes.insert(at, 1, bytes[at]);
            break;
          default:
            if (bytes.size() > 2) bytes.erase(at, 1);
            break;
        }
      }
      run_target(bytes);
    }
  }
}

}  // namespace
}  // namespace exeunt::http1
