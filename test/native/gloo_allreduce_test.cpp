// allReduce against plain computations, on both sides of the threshold between the algorithms.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "core/float16.h"
#include "gloo_ranks.h"
#include "numbers.h"

using namespace nc;
using namespace nc::test;

namespace {

const ReduceOp kOps[] = {ReduceOp::kSum, ReduceOp::kProd, ReduceOp::kMin, ReduceOp::kMax,
                         ReduceOp::kAvg, ReduceOp::kBand, ReduceOp::kBor, ReduceOp::kBxor};

Stamp allReduce(DType dtype, ReduceOp op, size_t count) {
  Stamp stamp;
  stamp.kind = OpKind::kAllReduce;
  stamp.dtype = dtype;
  stamp.reduceOp = op;
  stamp.count = count;
  return stamp;
}

void expectNoErrors(const std::vector<std::optional<Error>>& errors) {
  for (const auto& error : errors) {
    if (error) FAIL_CHECK(std::string(error->what()));
  }
}

void require(bool condition, const std::string& what) {
  if (!condition) throw Error(ErrorCode::kInternal, what);  // doctest's macros are slow in many threads
}

// A number for each rank and place, without any state to share.
uint64_t noise(uint64_t seed, int rank, size_t at) {
  uint64_t x = seed + static_cast<uint64_t>(rank) * 0x9e3779b97f4a7c15u + at * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

template <typename T>
T inputAt(int rank, size_t at) {
  const uint64_t bits = noise(99, rank, at);
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(bits);
  } else {
    // Values of which every sum and product of nine is exact in all formats.
    static constexpr float kValues[] = {-2, -1, 0.5f, 1, 2, 1, 4, -1};
    const float value = kValues[bits % 8];
    if constexpr (std::is_floating_point_v<T>) {
      return value;
    } else {
      return T::from(value);
    }
  }
}

template <typename T>
T expectedAt(ReduceOp op, int size, size_t at) {
  if constexpr (std::is_integral_v<T>) {
    auto all = widen(inputAt<T>(0, at));
    for (int rank = 1; rank < size; ++rank) {
      const auto x = widen(inputAt<T>(rank, at));
      switch (op) {
        case ReduceOp::kSum:
        case ReduceOp::kAvg:
          all += x;
          break;
        case ReduceOp::kProd:
          all = Wide{static_cast<uint64_t>(all) * static_cast<uint64_t>(x)};
          break;
        case ReduceOp::kMin:
          all = x < all ? x : all;
          break;
        case ReduceOp::kMax:
          all = x > all ? x : all;
          break;
        case ReduceOp::kBand:
          all &= x;
          break;
        case ReduceOp::kBor:
          all |= x;
          break;
        default:
          all ^= x;
      }
    }
    return static_cast<T>(op == ReduceOp::kAvg ? all / size : all);
  } else {
    const auto number = [&](int rank) -> double {
      if constexpr (std::is_floating_point_v<T>) {
        return inputAt<T>(rank, at);
      } else {
        return inputAt<T>(rank, at).value();
      }
    };
    double all = number(0);
    for (int rank = 1; rank < size; ++rank) {
      const double x = number(rank);
      if (op == ReduceOp::kSum || op == ReduceOp::kAvg) all += x;
      if (op == ReduceOp::kProd) all *= x;
      if (op == ReduceOp::kMin) all = std::min(all, x);
      if (op == ReduceOp::kMax) all = std::max(all, x);
    }
    if constexpr (std::is_floating_point_v<T>) {
      return op == ReduceOp::kAvg ? static_cast<T>(all) / static_cast<T>(size) : static_cast<T>(all);
    } else {
      return T::from(op == ReduceOp::kAvg ? static_cast<float>(all) / static_cast<float>(size)
                                          : static_cast<float>(all));
    }
  }
}

// Expectations are computed once, before the ranks start: under sanitizers they cost more than the
// operations.
template <typename T>
void checkAllOps(DType dtype, int size, size_t count, nc::gloo::CollectiveLimits limits) {
  std::vector<std::vector<T>> in(static_cast<size_t>(size), std::vector<T>(count + 1));
  for (int rank = 0; rank < size; ++rank) {
    for (size_t i = 0; i < count; ++i) in[static_cast<size_t>(rank)][i] = inputAt<T>(rank, i);
  }
  std::vector<std::pair<ReduceOp, std::vector<T>>> expected;
  for (const ReduceOp op : kOps) {
    const bool bits = op == ReduceOp::kBand || op == ReduceOp::kBor || op == ReduceOp::kBxor;
    if (bits && !std::is_integral_v<T>) continue;
    std::vector<T> all(count + 1);
    for (size_t i = 0; i < count; ++i) all[i] = expectedAt<T>(op, size, i);
    expected.emplace_back(op, std::move(all));
  }
  const auto errors = runRanks(
      size,
      [&](Rank& rank) {
        const std::vector<T>& mine = in[static_cast<size_t>(rank.rank)];
        std::vector<T> out(count + 1);
        std::vector<T> data(count + 1);
        for (const auto& [op, all] : expected) {
          const std::string what = std::string(name(dtype)) + " " + name(op) + " x " + std::to_string(count);
          rank.run(allReduce(dtype, op, count), mine.data(), out.data());
          require(sameBytes(out.data(), all.data(), count * sizeof(T)), what);
          data = mine;  // in place it is the same, and the input above was left alone
          rank.run(allReduce(dtype, op, count), data.data(), data.data());
          require(sameBytes(data.data(), all.data(), count * sizeof(T)), what + " in place");
        }
      },
      limits);
  CAPTURE(size);
  expectNoErrors(errors);
}

void checkAllTypes(int size, size_t count, nc::gloo::CollectiveLimits limits = {}) {
  checkAllOps<int8_t>(DType::kInt8, size, count, limits);
  checkAllOps<uint8_t>(DType::kUint8, size, count, limits);
  checkAllOps<int16_t>(DType::kInt16, size, count, limits);
  checkAllOps<uint16_t>(DType::kUint16, size, count, limits);
  checkAllOps<int32_t>(DType::kInt32, size, count, limits);
  checkAllOps<uint32_t>(DType::kUint32, size, count, limits);
  checkAllOps<int64_t>(DType::kInt64, size, count, limits);
  checkAllOps<uint64_t>(DType::kUint64, size, count, limits);
  checkAllOps<Float16>(DType::kFloat16, size, count, limits);
  checkAllOps<BFloat16>(DType::kBFloat16, size, count, limits);
  checkAllOps<float>(DType::kFloat32, size, count, limits);
  checkAllOps<double>(DType::kFloat64, size, count, limits);
}

// The order that docs/collectives.md promises.
template <typename T>
T treeSum(int size, const std::vector<T>& x) {
  int core = 1;
  while (core * 2 <= size) core *= 2;
  std::vector<T> level(x.begin(), x.begin() + core);
  for (int i = core; i < size; ++i) level[static_cast<size_t>(i - core)] += x[static_cast<size_t>(i)];
  while (level.size() > 1) {
    std::vector<T> next;
    for (size_t i = 0; i < level.size(); i += 2) next.push_back(level[i] + level[i + 1]);
    level = next;
  }
  return level[0];
}

template <typename T>
T ringSum(int size, const std::vector<T>& x, size_t share) {
  const auto n = static_cast<size_t>(size);
  T sum = x[(share + n - 1) % n];
  for (size_t step = 2; step <= n; ++step) sum = x[(share + n - step) % n] + sum;
  return sum;
}

template <typename T>
void checkOrder(DType dtype, int size, size_t count, bool ring) {
  constexpr size_t kSegment = size_t{1} << 20;
  const auto n = static_cast<size_t>(size);
  const size_t bytes = count * sizeof(T);
  const auto up = [](size_t x, size_t to) { return (x + to - 1) / to * to; };
  const size_t segments = up(std::max((bytes + kSegment - 1) / kSegment, 2 * n), n);
  const size_t shareBytes = segments / n * up((bytes + segments - 1) / segments, sizeof(T));
  const auto value = [](int rank, size_t at) {
    return static_cast<T>(static_cast<double>(noise(5, rank, at) % 1000003) / 1009.0 - 400.0);
  };
  std::vector<T> expected(count);
  for (size_t i = 0; i < count; ++i) {
    std::vector<T> x;
    for (int r = 0; r < size; ++r) x.push_back(value(r, i));
    expected[i] = ring ? ringSum(size, x, i * sizeof(T) / shareBytes) : treeSum(size, x);
  }
  const auto errors = runRanks(size, [&](Rank& rank) {
    std::vector<T> data(count);
    for (size_t i = 0; i < count; ++i) data[i] = value(rank.rank, i);
    rank.run(allReduce(dtype, ReduceOp::kSum, count), data.data(), data.data());
    require(data == expected, "other order than promised");
  });
  expectNoErrors(errors);
}

template <typename T>
void checkSameBits(DType dtype, int size, size_t count, uint64_t seed) {
  std::vector<std::vector<T>> results(static_cast<size_t>(size));
  const auto errors = runRanks(size, [&](Rank& rank) {
    for (const ReduceOp op :
         {ReduceOp::kSum, ReduceOp::kProd, ReduceOp::kMin, ReduceOp::kMax, ReduceOp::kAvg}) {
      std::vector<T> data(count);
      for (size_t i = 0; i < count; ++i) {
        uint64_t bits = noise(seed, rank.rank, i);
        // Every eighth: all exponent bits (NaN, infinity), none (subnormals), or nothing but the sign.
        constexpr int kBits = sizeof(T) * 8;
        const uint64_t fraction = sizeof(T) == 2 ? 0x7f : sizeof(T) == 4 ? 0x7fffff : 0xfffffffffffff;
        const uint64_t sign = uint64_t{1} << (kBits - 1);
        if (i % 8 == 1) bits |= ~(fraction | sign);
        if (i % 8 == 3) bits &= fraction | sign;
        if (i % 8 == 5) bits &= sign;
        if (i % 64 == 7) bits = (bits & sign) | (~(fraction | sign) & (sign - 1));
        std::memcpy(&data[i], &bits, sizeof(T));
      }
      rank.run(allReduce(dtype, op, count), data.data(), data.data());
      auto& mine = results[static_cast<size_t>(rank.rank)];
      mine.insert(mine.end(), data.begin(), data.end());
    }
  });
  expectNoErrors(errors);
  for (const auto& result : results) {
    CHECK(result.size() == results[0].size());
    CHECK(sameBytes(result.data(), results[0].data(), result.size() * sizeof(T)));
  }
}

}  // namespace

TEST_CASE("every type and operation is exact, 1 to 9 ranks, empty to above the threshold") {
  for (int size = 1; size <= 9; ++size) {
    for (const size_t count : {0, 1, 2, 3, 17, 1000}) checkAllTypes(size, count);
  }
}

TEST_CASE("every type and operation is exact by the ring") {
  for (const int size : {2, 3, 9}) checkAllTypes(size, 100003);
  for (const int size : {4, 5, 6, 7, 8}) {
    checkAllOps<float>(DType::kFloat32, size, 100003, {});
    checkAllOps<int8_t>(DType::kInt8, size, 100003, {});
  }
  // The ring with less data than it has segments.
  for (const int size : {2, 5, 9}) {
    for (const size_t count : {1, 2, 3, 17, 1000}) checkAllTypes(size, count, {0, 0});
  }
}

TEST_CASE("a large average goes in blocks") {
  // 524,288 accumulators of 8 bytes make a block; the rest after it is small.
  for (const size_t count : {524288 * 2, 524288 + 5}) checkAllOps<int8_t>(DType::kInt8, 3, count, {});
}

TEST_CASE("floats are summed in the documented order") {
  for (const int size : {2, 3, 4, 6, 7, 8, 9}) {
    CAPTURE(size);
    checkOrder<float>(DType::kFloat32, size, 1000, false);
    checkOrder<double>(DType::kFloat64, size, 33, false);
    checkOrder<float>(DType::kFloat32, size, 50001, true);
  }
  checkOrder<double>(DType::kFloat64, 3, 700001, true);  // several segments a share
}

TEST_CASE("any floats at all give the same bits on all ranks") {
  const uint64_t seed = std::random_device{}();
  MESSAGE("seed " << seed);
  for (const int size : {2, 3, 5, 8}) {
    for (const size_t count : {257, 70000}) {
      CAPTURE(size);
      CAPTURE(count);
      checkSameBits<float>(DType::kFloat32, size, count, seed);
      checkSameBits<double>(DType::kFloat64, size, count, seed);
      checkSameBits<Float16>(DType::kFloat16, size, count, seed);
      checkSameBits<BFloat16>(DType::kBFloat16, size, count, seed);
    }
  }
}

TEST_CASE("the first message may have been sent before") {
  for (int size = 2; size <= 9; ++size) {
    CAPTURE(size);
    expectNoErrors(runRanks(size, [](Rank& rank) {
      for (uint64_t seq = 1; seq <= 40; ++seq) {
        int64_t vote = rank.rank + static_cast<int64_t>(seq);
        Stamp stamp =
            allReduce(DType::kInt64, seq % 3 == 0 ? ReduceOp::kAvg : ReduceOp::kMax, seq % 4 ? 1 : 0);
        stamp.seq = seq;
        nc::gloo::Call call{stamp, Deadline::in(Millis(60000)), &vote, &vote};
        if (const auto first = rank.collectives.firstMessage(stamp)) {
          call.firstSent = rank.mesh.trySend(first->peer, first->slot, stamp, &vote, stamp.count * 8);
        }
        rank.collectives.run(call);
        const int64_t most = rank.size - 1 + static_cast<int64_t>(seq);
        const int64_t mean =
            (rank.size * (rank.size - 1) / 2 + rank.size * static_cast<int64_t>(seq)) / rank.size;
        if (seq % 4) require(vote == (seq % 3 ? most : mean), "wrong vote");
      }
    }));
  }
}
