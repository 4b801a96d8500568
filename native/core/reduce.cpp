#include "core/reduce.h"

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include "core/error.h"
#include "core/float16.h"

namespace nc {
namespace {

// Pedantic mode knows no 128-bit integers.
__extension__ using Int128 = __int128;
__extension__ using Uint128 = unsigned __int128;

template <typename T>
concept Small = std::same_as<T, Float16> || std::same_as<T, BFloat16>;

// Arithmetic without signed overflow, and without the promotion that makes uint16 * uint16 an int.
template <typename T>
using Wrapping =
    typename std::conditional_t<(sizeof(T) < 4), std::type_identity<uint32_t>, std::make_unsigned<T>>::type;

// Which NaN an addition yields depends on the order of its operands and on the processor.
template <std::floating_point T>
T canonical(T number) {
  return number != number ? std::numeric_limits<T>::quiet_NaN() : number;
}

// Float16 order as integer order: sign and magnitude to two's complement, which also puts -0 below +0.
template <Small T>
int16_t key(T number) {
  const auto sign = static_cast<uint16_t>(number.bits >> 15);
  return static_cast<int16_t>(number.bits ^ static_cast<uint16_t>(static_cast<uint16_t>(-sign) >> 1));
}

template <Small T>
bool isNan(T number) {
  return static_cast<int16_t>(number.bits & 0x7fff) > static_cast<int16_t>(T::kInfinity);
}

struct Sum {
  template <std::integral T>
  static T apply(T a, T b) {
    return static_cast<T>(static_cast<Wrapping<T>>(a) + static_cast<Wrapping<T>>(b));
  }
  template <std::floating_point T>
  static T apply(T a, T b) {
    return canonical(a + b);
  }
  template <Small T>
  [[gnu::always_inline]] static T apply(T a, T b) {
    return T::from(a.value() + b.value());
  }
  static Int128 apply(Int128 a, Int128 b) {
    return static_cast<Int128>(static_cast<Uint128>(a) + static_cast<Uint128>(b));
  }
};

struct Prod {
  template <std::integral T>
  static T apply(T a, T b) {
    return static_cast<T>(static_cast<Wrapping<T>>(a) * static_cast<Wrapping<T>>(b));
  }
  template <std::floating_point T>
  static T apply(T a, T b) {
    return canonical(a * b);
  }
  template <Small T>
  [[gnu::always_inline]] static T apply(T a, T b) {
    return T::from(a.value() * b.value());
  }
};

template <bool kLargest>
struct Extreme {
  template <std::integral T>
  static T apply(T a, T b) {
    return (kLargest ? a > b : a < b) ? a : b;
  }
  template <std::floating_point T>
  static T apply(T a, T b) {
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    const Bits left = std::bit_cast<Bits>(a);
    const Bits right = std::bit_cast<Bits>(b);
    // Equal numbers have equal bits but for the two zeros: the sign bit says which of them is the extreme.
    const T same = std::bit_cast<T>(kLargest ? left & right : left | right);
    // Both comparisons are made in any case, so that these become selections, not jumps.
    const bool first = kLargest ? a > b : a < b;
    const bool equal = a == b;
    T result = first ? a : b;
    result = equal ? same : result;
    return a != a || b != b ? std::numeric_limits<T>::quiet_NaN() : result;
  }
  template <Small T>
  static T apply(T a, T b) {
    const bool first = kLargest ? key(a) > key(b) : key(a) < key(b);
    const uint16_t result = first ? a.bits : b.bits;
    return {isNan(a) || isNan(b) ? T::kNan : result};
  }
};
using Min = Extreme<false>;
using Max = Extreme<true>;

struct Band {
  template <std::integral T>
  static T apply(T a, T b) {
    return static_cast<T>(a & b);
  }
};
struct Bor {
  template <std::integral T>
  static T apply(T a, T b) {
    return static_cast<T>(a | b);
  }
};
struct Bxor {
  template <std::integral T>
  static T apply(T a, T b) {
    return static_cast<T>(a ^ b);
  }
};

// A block of known length: -O2 vectorises only loops that need no scalar rest.
constexpr size_t kBlock = 64;

template <typename Op, typename T>
void combine(T* __restrict out, const T* __restrict a, const T* __restrict b, size_t n) {
  size_t at = 0;
  for (; n - at >= kBlock; at += kBlock) {
    for (size_t i = 0; i < kBlock; ++i) out[at + i] = Op::apply(a[at + i], b[at + i]);
  }
  for (; at < n; ++at) out[at] = Op::apply(a[at], b[at]);
}

template <typename Op, typename T>
void fold(T* __restrict out, const T* __restrict other, size_t n) {
  size_t at = 0;
  for (; n - at >= kBlock; at += kBlock) {
    for (size_t i = 0; i < kBlock; ++i) out[at + i] = Op::apply(out[at + i], other[at + i]);
  }
  for (; at < n; ++at) out[at] = Op::apply(out[at], other[at]);
}

template <typename Op, typename T>
void reduce(void* out, const void* a, const void* b, size_t n) {
  if (out == b) std::swap(a, b);  // commutative bit by bit, so two loops serve all cases
  auto* to = static_cast<T*>(out);
  if (out == a) {
    fold<Op>(to, static_cast<const T*>(b), n);
  } else {
    combine<Op>(to, static_cast<const T*>(a), static_cast<const T*>(b), n);
  }
}

Error unsupported(DType dtype, ReduceOp op) {
  return Error(ErrorCode::kInvalidArgument,
               std::string("reduction ") + name(op) + " is not defined for " + name(dtype));
}

template <typename T>
ReduceFn select(DType dtype, ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return reduce<Sum, T>;
    case ReduceOp::kProd:
      return reduce<Prod, T>;
    case ReduceOp::kMin:
      return reduce<Min, T>;
    case ReduceOp::kMax:
      return reduce<Max, T>;
    case ReduceOp::kBand:
    case ReduceOp::kBor:
    case ReduceOp::kBxor:
      if constexpr (std::integral<T>) {
        if (op == ReduceOp::kBand) return reduce<Band, T>;
        return op == ReduceOp::kBor ? reduce<Bor, T> : reduce<Bxor, T>;
      }
      break;
    case ReduceOp::kAvg:
    case ReduceOp::kNone:
      break;
  }
  throw unsupported(dtype, op);
}

// What Accumulator each element is summed in, and the way there and back.
template <typename T, typename Accumulator>
struct Wide {
  static Accumulator up(T value) {
    if constexpr (Small<T>) {
      return value.value();
    } else {
      return static_cast<Accumulator>(value);
    }
  }
  static T down(Accumulator sum, Accumulator ranks) {
    if constexpr (Small<T>) {
      return T::from(sum / ranks);
    } else if constexpr (std::floating_point<T>) {
      return canonical(sum / ranks);
    } else {
      return static_cast<T>(sum / ranks);  // C++ divides towards zero
    }
  }
  static void widen(void* accumulators, const void* in, size_t n) {
    if constexpr (std::same_as<T, Accumulator>) {
      if (n > 0) std::memmove(accumulators, in, n * sizeof(T));
    } else {
      auto* __restrict to = static_cast<Accumulator*>(accumulators);
      const auto* __restrict from = static_cast<const T*>(in);
      for (size_t i = 0; i < n; ++i) to[i] = up(from[i]);
    }
  }
  static void narrow(void* out, const void* accumulators, size_t n, int ranks) {
    auto* to = static_cast<T*>(out);
    const auto* from = static_cast<const Accumulator*>(accumulators);
    const auto divisor = static_cast<Accumulator>(ranks);
    for (size_t i = 0; i < n; ++i) to[i] = down(from[i], divisor);
  }
  static constexpr Widening make() {
    return {sizeof(Accumulator), std::same_as<T, Accumulator>, reduce<Sum, Accumulator>, widen, narrow};
  }
};

}  // namespace

ReduceFn reduceFunction(DType dtype, ReduceOp op) {
  switch (dtype) {
    case DType::kInt8:
      return select<int8_t>(dtype, op);
    case DType::kUint8:
      return select<uint8_t>(dtype, op);
    case DType::kInt16:
      return select<int16_t>(dtype, op);
    case DType::kUint16:
      return select<uint16_t>(dtype, op);
    case DType::kInt32:
      return select<int32_t>(dtype, op);
    case DType::kUint32:
      return select<uint32_t>(dtype, op);
    case DType::kInt64:
      return select<int64_t>(dtype, op);
    case DType::kUint64:
      return select<uint64_t>(dtype, op);
    case DType::kFloat16:
      return select<Float16>(dtype, op);
    case DType::kBFloat16:
      return select<BFloat16>(dtype, op);
    case DType::kFloat32:
      return select<float>(dtype, op);
    case DType::kFloat64:
      return select<double>(dtype, op);
    case DType::kFloat8E4M3:
    case DType::kFloat8E5M2:
      throw Error(ErrorCode::kInvalidArgument, std::string(name(dtype)) + " is reduced on devices only");
  }
  throw Error(ErrorCode::kInvalidArgument, "unknown data type");
}

Widening widening(DType dtype) {
  switch (dtype) {
    // N ranks of 32 bits fit an int64 for every N that fits an int.
    case DType::kInt8:
      return Wide<int8_t, int64_t>::make();
    case DType::kUint8:
      return Wide<uint8_t, int64_t>::make();
    case DType::kInt16:
      return Wide<int16_t, int64_t>::make();
    case DType::kUint16:
      return Wide<uint16_t, int64_t>::make();
    case DType::kInt32:
      return Wide<int32_t, int64_t>::make();
    case DType::kUint32:
      return Wide<uint32_t, int64_t>::make();
    case DType::kInt64:
      return Wide<int64_t, Int128>::make();
    case DType::kUint64:
      return Wide<uint64_t, Int128>::make();
    case DType::kFloat16:
      return Wide<Float16, float>::make();
    case DType::kBFloat16:
      return Wide<BFloat16, float>::make();
    case DType::kFloat32:
      return Wide<float, float>::make();
    case DType::kFloat64:
      return Wide<double, double>::make();
    case DType::kFloat8E4M3:
    case DType::kFloat8E5M2:
      throw Error(ErrorCode::kInvalidArgument, std::string(name(dtype)) + " is averaged on devices only");
  }
  throw Error(ErrorCode::kInvalidArgument, "unknown data type");
}

}  // namespace nc
