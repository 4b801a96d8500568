#include "core/reduce.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "core/error.h"
#include "core/float16.h"
#include "numbers.h"

using namespace nc;
using namespace nc::test;

namespace {

// Straightforward, in double, sharing nothing with the code under test.
struct Format {
  int fractionBits;
  int bias;
  uint16_t nan;
};
constexpr Format kHalf{10, 15, 0x7e00};
constexpr Format kBrain{7, 127, 0x7fc0};

double decode(const Format& format, uint16_t bits) {
  const int fraction = bits & ((1 << format.fractionBits) - 1);
  const int top = (1 << (15 - format.fractionBits)) - 1;
  const int exponent = (bits >> format.fractionBits) & top;
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == top) return fraction ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - format.bias - format.fractionBits);
  return sign *
         std::ldexp(fraction + (1 << format.fractionBits), exponent - format.bias - format.fractionBits);
}

uint16_t encode(const Format& format, double value) {
  if (std::isnan(value)) return format.nan;
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  const int top = (1 << (15 - format.fractionBits)) - 1;
  const auto infinity = static_cast<uint16_t>(top << format.fractionBits);
  if (std::isinf(magnitude)) return sign | infinity;
  int exponent = magnitude == 0 ? 1 - format.bias : std::ilogb(magnitude);
  exponent = std::max(exponent, 1 - format.bias);
  const double units = std::nearbyint(std::ldexp(magnitude, format.fractionBits - exponent));
  const int low = exponent + format.bias - 1;
  const double bits = units + std::ldexp(low, format.fractionBits);
  return static_cast<uint16_t>(sign | (bits >= infinity ? infinity : static_cast<uint16_t>(bits)));
}

template <typename T>
void checkConversions(const Format& format) {
  int wrong = 0;
  const auto back = [&](float number) {
    if (T::from(number).bits != encode(format, number)) ++wrong;
  };
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = T{half}.value();
    const double expected = decode(format, half);
    if (std::isnan(expected)) {
      if (!std::isnan(value)) ++wrong;
    } else if (std::bit_cast<uint64_t>(static_cast<double>(value)) != std::bit_cast<uint64_t>(expected)) {
      ++wrong;
    }
    back(value);
    if (std::isnan(expected) || std::isinf(expected)) continue;
    // The middle to the next value and its two neighbours decide the rounding.
    const double next = decode(format, static_cast<uint16_t>(half + 1));
    const auto middle = static_cast<float>(std::isinf(next) ? 65520.0 : (expected + next) / 2);
    back(middle);
    back(std::nextafterf(middle, 0.0f));
    back(std::nextafterf(middle, std::copysign(HUGE_VALF, middle)));
  }
  std::mt19937 random(1);
  for (int i = 0; i < 1'000'000; ++i) back(std::bit_cast<float>(static_cast<uint32_t>(random())));
  CHECK(wrong == 0);
}

template <typename T>
std::vector<T> apply(DType dtype, ReduceOp op, const std::vector<T>& a, const std::vector<T>& b) {
  std::vector<T> out(a.size());
  reduceFunction(dtype, op)(out.data(), a.data(), b.data(), a.size());
  return out;
}

template <typename T>
void checkInteger(DType dtype) {
  std::mt19937_64 random(7);
  std::vector<T> edge{0,
                      1,
                      static_cast<T>(-1),
                      2,
                      std::numeric_limits<T>::min(),
                      std::numeric_limits<T>::max(),
                      static_cast<T>(std::numeric_limits<T>::max() / 2)};
  std::vector<T> a;
  std::vector<T> b;
  if (sizeof(T) == 1) {
    for (int i = 0; i < 65536; ++i) {
      a.push_back(static_cast<T>(i));
      b.push_back(static_cast<T>(i >> 8));
    }
  }
  for (const T x : edge) {
    for (const T y : edge) {
      a.push_back(x);
      b.push_back(y);
    }
  }
  for (int i = 0; i < 1000; ++i) {
    a.push_back(static_cast<T>(random()));
    b.push_back(static_cast<T>(random()));
  }
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kProd, ReduceOp::kMin, ReduceOp::kMax, ReduceOp::kBand,
                            ReduceOp::kBor, ReduceOp::kBxor}) {
    const auto out = apply(dtype, op, a, b);
    int wrong = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      const auto x = widen(a[i]);
      const auto y = widen(b[i]);
      Wide r = 0;
      switch (op) {
        case ReduceOp::kSum:
          r = x + y;
          break;
        case ReduceOp::kProd:  // modulo 2^64 first: the product of two uint64 does not fit
          r = Wide{static_cast<uint64_t>(x) * static_cast<uint64_t>(y)};
          break;
        case ReduceOp::kMin:
          r = x < y ? x : y;
          break;
        case ReduceOp::kMax:
          r = x > y ? x : y;
          break;
        case ReduceOp::kBand:
          r = x & y;
          break;
        case ReduceOp::kBor:
          r = x | y;
          break;
        default:
          r = x ^ y;
      }
      if (out[i] != static_cast<T>(r)) ++wrong;
    }
    CAPTURE(name(dtype));
    CAPTURE(name(op));
    CHECK(wrong == 0);
  }
}

template <typename T>
using BitsOf =
    std::conditional_t<sizeof(T) == 2, uint16_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;

// Every pair of the special values, in both orders; `exact` computes on doubles (or floats) what is expected.
template <typename T, typename Number, typename To, typename From>
void checkFloat(DType dtype, const std::vector<T>& specials, BitsOf<T> nan, To to, From from) {
  std::vector<T> a;
  std::vector<T> b;
  for (const T x : specials) {
    for (const T y : specials) {
      a.push_back(x);
      b.push_back(y);
    }
  }
  using Bits = BitsOf<T>;
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kProd, ReduceOp::kMin, ReduceOp::kMax}) {
    const auto forth = apply(dtype, op, a, b);
    const auto back = apply(dtype, op, b, a);
    CAPTURE(name(dtype));
    CAPTURE(name(op));
    CHECK(sameBytes(forth.data(), back.data(), a.size() * sizeof(T)));
    int wrong = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      const Number x = to(a[i]);
      const Number y = to(b[i]);
      Number r = 0;
      if (op == ReduceOp::kSum) r = x + y;
      if (op == ReduceOp::kProd) r = x * y;
      const bool left = x == y ? std::signbit(x) : x < y;  // -0 is below +0
      if (op == ReduceOp::kMin) r = left ? x : y;
      if (op == ReduceOp::kMax) r = left ? y : x;
      const bool none = std::isnan(x) || std::isnan(y) || std::isnan(r);
      const Bits expected = none ? nan : std::bit_cast<Bits>(from(r));
      if (std::bit_cast<Bits>(forth[i]) != expected) ++wrong;
    }
    CHECK(wrong == 0);
  }
}

template <typename T>
std::vector<T> specialNumbers() {
  using L = std::numeric_limits<T>;
  std::vector<T> all{0,
                     1,
                     T(1.5),
                     T(3),
                     L::min(),
                     L::denorm_min(),
                     L::max(),
                     L::infinity(),
                     L::epsilon(),
                     L::quiet_NaN(),
                     L::signaling_NaN(),
                     T(0.1),
                     L::min() / 2};
  const size_t n = all.size();
  for (size_t i = 0; i < n; ++i) all.push_back(-all[i]);
  // A NaN with a payload of its own.
  using Bits = BitsOf<T>;
  all.push_back(std::bit_cast<T>(static_cast<Bits>(std::bit_cast<Bits>(L::quiet_NaN()) | 0x123)));
  return all;
}

template <typename T>
std::vector<T> sampled() {
  std::vector<T> all;
  for (uint32_t bits = 0; bits < 0x10000; bits += 97) all.push_back(T{static_cast<uint16_t>(bits)});
  for (const int bits :
       {0x0000, 0x8000, 0x0001, 0x8001, 0x7c00, 0xfc00, 0x7f80, 0xff80, 0x7fff, 0xffff, 0x7fc1}) {
    all.push_back(T{static_cast<uint16_t>(bits)});
  }
  return all;
}

template <typename T>
void checkAverage(DType dtype, std::vector<std::vector<T>> ranks, const std::vector<T>& expected) {
  const Widening wide = widening(dtype);
  const size_t n = expected.size();
  alignas(16) std::byte sum[256];
  alignas(16) std::byte one[256];
  REQUIRE(n * wide.bytes <= sizeof sum);
  wide.widen(sum, ranks[0].data(), n);
  for (size_t rank = 1; rank < ranks.size(); ++rank) {
    wide.widen(one, ranks[rank].data(), n);
    wide.reduce(sum, sum, one, n);
  }
  std::vector<T> out(n);
  wide.narrow(out.data(), sum, n, static_cast<int>(ranks.size()));
  CAPTURE(name(dtype));
  CHECK(sameBytes(out.data(), expected.data(), n * sizeof(T)));
}

}  // namespace

TEST_CASE("16-bit floats convert exactly, all 65,536 of them, and round to nearest even") {
  checkConversions<Float16>(kHalf);
  checkConversions<BFloat16>(kBrain);
}

TEST_CASE("integers: every operation, wrapping") {
  checkInteger<int8_t>(DType::kInt8);
  checkInteger<uint8_t>(DType::kUint8);
  checkInteger<int16_t>(DType::kInt16);
  checkInteger<uint16_t>(DType::kUint16);
  checkInteger<int32_t>(DType::kInt32);
  checkInteger<uint32_t>(DType::kUint32);
  checkInteger<int64_t>(DType::kInt64);
  checkInteger<uint64_t>(DType::kUint64);
}

TEST_CASE("floats: NaN wins with the same bits, -0 is below +0, operands commute") {
  const auto same = [](auto x) { return x; };
  checkFloat<float, float>(DType::kFloat32, specialNumbers<float>(), 0x7fc00000u, same, same);
  checkFloat<double, double>(DType::kFloat64, specialNumbers<double>(), 0x7ff8000000000000u, same, same);
  checkFloat<Float16, float>(
      DType::kFloat16, sampled<Float16>(), 0x7e00,
      [](Float16 x) { return static_cast<float>(decode(kHalf, x.bits)); },
      [](float x) { return Float16{encode(kHalf, x)}; });
  checkFloat<BFloat16, float>(
      DType::kBFloat16, sampled<BFloat16>(), 0x7fc0,
      [](BFloat16 x) { return static_cast<float>(decode(kBrain, x.bits)); },
      [](float x) { return BFloat16{encode(kBrain, x)}; });
}

TEST_CASE("the output may be either operand, at every length around a block") {
  for (const size_t n : {0, 1, 2, 63, 64, 65, 127, 128, 200}) {
    std::vector<int32_t> a(n);
    std::vector<int32_t> b(n);
    std::vector<int32_t> expected(n);
    for (size_t i = 0; i < n; ++i) {
      a[i] = static_cast<int32_t>(i * 7);
      b[i] = static_cast<int32_t>(i * i);
      expected[i] = a[i] + b[i];
    }
    const ReduceFn sum = reduceFunction(DType::kInt32, ReduceOp::kSum);
    CHECK(apply(DType::kInt32, ReduceOp::kSum, a, b) == expected);
    std::vector<int32_t> left = a;
    sum(left.data(), left.data(), b.data(), n);
    CHECK(left == expected);
    std::vector<int32_t> right = b;
    sum(right.data(), a.data(), right.data(), n);
    CHECK(right == expected);
  }
}

TEST_CASE("what is not defined is refused") {
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16, DType::kFloat32, DType::kFloat64}) {
    for (const ReduceOp op : {ReduceOp::kBand, ReduceOp::kBor, ReduceOp::kBxor}) {
      CHECK_THROWS_AS(reduceFunction(dtype, op), Error);
    }
  }
  CHECK_THROWS_AS(reduceFunction(DType::kInt8, ReduceOp::kAvg), Error);
  CHECK_THROWS_AS(reduceFunction(DType::kInt8, ReduceOp::kNone), Error);
  CHECK_THROWS_AS(reduceFunction(DType{0}, ReduceOp::kSum), Error);
}

TEST_CASE("averages are exact for integers and divide towards zero") {
  checkAverage<int8_t>(DType::kInt8, {{127, -128, -3, 1}, {127, -128, 0, 0}}, {127, -128, -1, 0});
  checkAverage<uint8_t>(DType::kUint8, {{255, 0, 3}, {255, 1, 4}, {255, 1, 4}}, {255, 0, 3});
  checkAverage<int16_t>(DType::kInt16, {{32767, -32768}, {32767, -32767}}, {32767, -32767});
  checkAverage<uint16_t>(DType::kUint16, {{65535}, {65534}}, {65534});
  checkAverage<int32_t>(DType::kInt32, {{INT32_MAX, INT32_MIN}, {INT32_MAX, INT32_MIN}},
                        {INT32_MAX, INT32_MIN});
  checkAverage<uint32_t>(DType::kUint32, {{UINT32_MAX}, {UINT32_MAX}, {UINT32_MAX - 2}}, {UINT32_MAX - 1});
  checkAverage<int64_t>(DType::kInt64, {{INT64_MAX, INT64_MIN, -1}, {INT64_MAX, INT64_MIN, 0}},
                        {INT64_MAX, INT64_MIN, 0});
  checkAverage<uint64_t>(DType::kUint64, {{UINT64_MAX, 5}, {UINT64_MAX, 6}}, {UINT64_MAX, 5});
  // 60000 + 60000 overflows float16, its mean does not; 3 values whose partial sums round in float16.
  checkAverage<Float16>(DType::kFloat16, {{{encode(kHalf, 60000)}}, {{encode(kHalf, 60000)}}},
                        {{encode(kHalf, 60000)}});
  checkAverage<BFloat16>(DType::kBFloat16,
                         {{{encode(kBrain, 256)}}, {{encode(kBrain, 1)}}, {{encode(kBrain, 1)}}},
                         {{encode(kBrain, 258.0f / 3)}});
  checkAverage<float>(DType::kFloat32, {{1, 0.5f}, {2, 0.25f}}, {1.5f, 0.375f});
  checkAverage<double>(DType::kFloat64, {{1, -0.0}, {2, -0.0}}, {1.5, -0.0});
  CHECK(widening(DType::kFloat32).same);
  CHECK_FALSE(widening(DType::kFloat16).same);
}
