// SPDX-License-Identifier: Apache-2.0
// Power series as fibers: each coefficient is asked for over a channel. Nobody ends a series, so
// all are abandoned, which is why they have a program of their own.

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>

#include <exeunt/base/log.hpp>
#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/sched/go.hpp>

#include "support/abandons.hpp"
#include "support/on_workers.hpp"

namespace exeunt {
namespace {

class series_stress : public test::on_workers {};
EXEUNT_ON_WORKERS(series_stress);

// CH-21: power series as fibers that answer requests: many short-lived channels and fibers.
struct rational {
  std::int64_t num = 0;
  std::int64_t den = 1;
  friend bool operator==(const rational&, const rational&) = default;
};

rational reduce(std::int64_t num, std::int64_t den) {
  const std::int64_t divisor = std::gcd(num, den) * (den < 0 ? -1 : 1);
  return {num / divisor, den / divisor};
}
rational operator+(rational a, rational b) {
  const std::int64_t divisor = std::gcd(a.den, b.den);
  return reduce(a.num * (b.den / divisor) + b.num * (a.den / divisor), a.den / divisor * b.den);
}
rational operator*(rational a, rational b) {
  const rational x = reduce(a.num, b.den);
  const rational y = reduce(b.num, a.den);
  return reduce(x.num * y.num, x.den * y.den);
}

// A coefficient is made when it is asked for. Nobody ends a series: all are abandoned.
struct series {
  chan<void> ask;
  chan<rational> answer;

  rational get() const {
    ask.send();
    return *answer.recv();
  }
  template <typename F>
  void serve(F&& make) const {
    static_cast<void>(ask.recv());
    answer.send(make());
  }
};

template <typename F>
series series_of(F&& coefficient) {
  const series out;
  go([out, coefficient]() mutable {
    for (int i = 0;; ++i) out.serve([&] { return coefficient(i); });
  });
  return out;
}

// One series as two, each of which may run ahead: what is drawn is kept for the other, who is
// served also while a coefficient is being made, since it may be what that waits for.
std::pair<series, series> split(const series& from) {
  const std::pair<series, series> out;
  go([=] {
    const std::array<series, 2> ends{out.first, out.second};
    const chan<void> no_request{nullptr};
    const chan<rational> no_answer{nullptr};
    std::vector<rational> drawn;
    std::array<std::size_t, 2> given{};
    std::array<bool, 2> waits{};
    bool wanted = false;   // A coefficient is to be asked for,
    bool drawing = false;  // or has been.
    for (;;) {
      select(on_recv(waits[0] ? no_request : ends[0].ask, [&] { waits[0] = true; }),
             on_recv(waits[1] ? no_request : ends[1].ask, [&] { waits[1] = true; }),
             on_send(wanted ? from.ask : no_request,
                     [&] {
                       wanted = false;
                       drawing = true;
                     }),
             on_recv(drawing ? from.answer : no_answer, [&](std::optional<rational> v) {
               drawn.push_back(*v);
               drawing = false;
             }));
      for (std::size_t i = 0; i < 2; ++i) {
        if (!waits[i]) continue;
        if (given[i] < drawn.size()) {
          ends[i].answer.send(drawn[given[i]++]);
          waits[i] = false;
        } else {
          wanted = !drawing;
        }
      }
    }
  });
  return out;
}

series scaled(rational by, const series& of) {
  return series_of([=](int) { return by * of.get(); });
}

series derivative(const series& of) {
  return series_of([=](int i) {
    if (i == 0) of.get();
    return rational{i + 1} * of.get();
  });
}

series integral(rational constant, const series& of) {
  return series_of([=](int i) { return i == 0 ? constant : reduce(1, i) * of.get(); });
}

// (f + xF)(g + xG) = fg + x(fG + gF + xFG)
series product(const series& a, const series& b) {
  const series out;
  go([=] {
    rational f;
    rational g;
    out.serve([&] {
      f = a.get();
      g = b.get();
      return f * g;
    });
    const auto [a1, a2] = split(a);
    const auto [b1, b2] = split(b);
    const series straight = scaled(f, b1);
    const series across = scaled(g, a1);
    out.serve([&] { return straight.get() + across.get(); });
    const series rest = product(a2, b2);
    for (;;) out.serve([&] { return straight.get() + across.get() + rest.get(); });
  });
  return out;
}

// Z' = Z U', so Z feeds on itself.
series exponential(const series& of) {
  const series loop;
  const auto [inner, outer] = split(loop);
  const series source = integral({1}, product(inner, derivative(of)));
  go([=] {
    for (;;) loop.serve([&] { return source.get(); });
  });
  return outer;
}

TEST_P(series_stress, ch_21_power_series) {
  set_log_sink([](std::string_view) noexcept {});
  {
    runtime workers{{.procs = GetParam()}};
    workers.run([] {
      const auto all = [](std::int64_t v) { return series_of([v](int) { return rational{v}; }); };
      const auto expect = [](const series& got, const std::array<rational, 10>& wanted) {
        for (const rational& one : wanted) EXPECT_EQ(got.get(), one);
      };
      std::array<rational, 10> counting;
      std::array<rational, 10> harmonic;
      std::array<rational, 10> minus_twos;
      for (int i = 0; i < 10; ++i) {
        const auto at = static_cast<std::size_t>(i);
        counting[at] = {i + 1};
        harmonic[at] = i == 0 ? rational{0} : rational{1, i};
        minus_twos[at] = {-2};
      }
      expect(derivative(all(1)), counting);
      expect(integral({0}, all(1)), harmonic);
      expect(product(all(1), all(1)), counting);
      expect(scaled({-1}, all(2)), minus_twos);
      expect(exponential(all(1)), {{{1},
                                    {1},
                                    {3, 2},
                                    {13, 6},
                                    {73, 24},
                                    {167, 40},
                                    {4051, 720},
                                    {37633, 5040},
                                    {43817, 4480},
                                    {4596553, 362880}}});
      const series signs = series_of([](int i) { return rational{i % 2 == 1 ? 0 : 1 - i % 4}; });
      expect(integral({0}, signs),
             {{{0}, {1}, {0}, {-1, 3}, {0}, {1, 5}, {0}, {-1, 7}, {0}, {1, 9}}});
    });
    EXPECT_GT(workers.stop(), 50U);
  }
  set_log_sink(nullptr);
}

}  // namespace
}  // namespace exeunt
