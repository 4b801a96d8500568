// Element-wise reductions: the arithmetic of allReduce, without any transport. Pure functions, any thread.
//
// Every function is commutative bit by bit, NaN and zeros included: which rank's operand stands left cannot
// be seen in the result. docs/collectives.md has the rules for users.
#pragma once

#include <cstddef>

#include "core/operation.h"

namespace nc {

// out[i] = a[i] op b[i] for i < n. `out` may be `a` or `b` (then a and b are two arrays); no other overlap.
using ReduceFn = void (*)(void* out, const void* a, const void* b, size_t n);

// SUM, PROD, MIN, MAX on every type; BAND, BOR, BXOR on integers. Throws Error(kInvalidArgument) for the
// rest; AVG is not one function but a Widening.
ReduceFn reduceFunction(DType dtype, ReduceOp op);

// AVG: the sum is taken in a type that holds it exactly (integers) or more closely (the 16-bit floats), and
// divided once at the end, integers towards zero.
struct Widening {
  size_t bytes;     // of one accumulator: 4, 8 or 16
  bool same;        // the accumulator is the element's own type: widen() only copies
  ReduceFn reduce;  // the accumulator's sum
  void (*widen)(void* accumulators, const void* in, size_t n);
  void (*narrow)(void* out, const void* accumulators, size_t n,
                 int ranks);  // out may be accumulators if same
};

Widening widening(DType dtype);

// Accumulators that are held at a time: an average of a large array needs no copy eight times its size.
inline constexpr size_t kAverageBytes = size_t{4} << 20;

}  // namespace nc
