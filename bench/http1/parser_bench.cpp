// SPDX-License-Identifier: Apache-2.0
// Question:  what does it cost to read a request's head, and to write a response's?
// Unit:      one item = one head; bytes are those on the wire. Lower time is better.
// Compare:   across versions of llhttp and of this room.
// Not said:  nothing about reading from a socket, and nothing about heads that come in pieces.

#include <benchmark/benchmark.h>

#include <array>
#include <string_view>

#include <exeunt/http1/parser.hpp>

#include "http1/serializer.hpp"

namespace {

namespace http1 = exeunt::http1;

// What wrk sends.
constexpr std::string_view small_request = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

// What a browser sends for a page of a site it has been to.
constexpr std::string_view browser_request =
    "GET /articles/2024/concurrency?ref=front&page=2 HTTP/1.1\r\n"
    "Host: www.example.com\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: "
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Connection: keep-alive\r\n"
    "Referer: https://www.example.com/articles/\r\n"
    "Cookie: session=5f2b9c0e4d7a48d1a3f6c8e7b9d0a1c2; theme=dark; consent=1\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "If-None-Match: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"\r\n"
    "\r\n";

void read_head(benchmark::State& state, std::string_view request) {
  std::array<http1::field, 100> slots;
  http1::request_parser parser{slots};
  for (auto _ : state) {
    benchmark::DoNotOptimize(parser.parse(request));
    benchmark::DoNotOptimize(parser.parse({}));
  }
  state.SetItemsProcessed(state.iterations());
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(request.size()));
}
BENCHMARK_CAPTURE(read_head, small, small_request);
BENCHMARK_CAPTURE(read_head, browser, browser_request);

void write_head(benchmark::State& state) {
  const http1::field type{"Content-Type", "text/plain"};
  const http1::date_text date = http1::format_date(0);
  std::array<char, 1024> out;
  for (auto _ : state) {
    benchmark::DoNotOptimize(http1::write_head(out, {.fields = {&type, 1},
                                                     .date = {date.data(), date.size()},
                                                     .body = http1::body_framing::length,
                                                     .content_length = 13}));
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(write_head);

}  // namespace
