// SPDX-License-Identifier: Apache-2.0
// A fuzz target for the request parser: any bytes, cut anywhere, give the same events.
//
// The first byte seeds the cuts, the rest is a connection's input. corpus_test.cpp replays the
// corpus through the same function.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "support/http1_record.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace exeunt::http1;
  if (size == 0) return 0;
  const std::string_view bytes{reinterpret_cast<const char*>(data) + 1, size - 1};
  // Small bounds, so that short inputs reach them.
  const limits bounds{
      .head_bytes = 256, .target_bytes = 64, .fields = 8, .trailer_bytes = 64, .body_bytes = 512};
  seeded random{data[0]};
  const std::string whole = record(bytes, {}, bounds);
  guarded_memory memory{bytes.size() + 1};
  const std::string pieces = record(bytes, random.some_cuts(bytes.size()), bounds, &memory);
  // Only the recorder begins a line with this word.
  const bool broken = whole.starts_with("BROKEN:") || whole.find("\nBROKEN:") != std::string::npos;
  if (whole != pieces || broken) {
    std::fprintf(stderr, "whole:\n%s\nin pieces:\n%s\n", whole.c_str(), pieces.c_str());
    std::abort();
  }
  return 0;
}
