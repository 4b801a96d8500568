// reduce, reduceScatter and allToAll. Sums of whole numbers are compared with allReduce, which has tests of
// its own; sums of any floats with a plain computation in the documented order.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "core/float16.h"
#include "gloo_ranks.h"
#include "numbers.h"

using namespace nc;
using namespace nc::test;

namespace {

using Bytes = std::vector<std::byte>;

const ReduceOp kOps[] = {ReduceOp::kSum, ReduceOp::kProd, ReduceOp::kMin, ReduceOp::kMax,
                         ReduceOp::kAvg, ReduceOp::kBand, ReduceOp::kBor, ReduceOp::kBxor};

Stamp make(OpKind kind, DType dtype = DType::kInt32, size_t count = 0, ReduceOp op = ReduceOp::kNone,
           int root = -1) {
  Stamp stamp;
  stamp.kind = kind;
  stamp.dtype = dtype;
  stamp.reduceOp = op;
  stamp.root = root;
  stamp.count = count;
  return stamp;
}

void require(bool condition, const std::string& what) {
  if (!condition) throw Error(ErrorCode::kInternal, what);
}

void expectNoErrors(const std::vector<std::optional<Error>>& errors) {
  for (const auto& error : errors) {
    if (error) FAIL_CHECK(std::string(error->what()));
  }
}

// All algorithms but the usual ones of small data, and rings of many pieces.
nc::gloo::CollectiveLimits ringOnly() {
  nc::gloo::CollectiveLimits limits;
  limits.smallReduce = 0;
  limits.tinyScatter = 0;
  limits.smallScatter = 0;
  limits.smallExchange = 0;
  limits.ringPiece = 64;
  return limits;
}
nc::gloo::CollectiveLimits directOnly() {
  nc::gloo::CollectiveLimits limits;
  limits.tinyScatter = 0;
  limits.smallScatter = size_t{1} << 30;
  limits.smallExchange = size_t{1} << 30;
  return limits;
}

// Integers are any bits; floats are small whole numbers, of which every sum and product is exact.
Bytes values(DType dtype, int rank, size_t count) {
  Bytes out(count * elementSize(dtype));
  std::minstd_rand random(static_cast<unsigned>(rank) * 7919 + 17);
  for (size_t i = 0; i < count; ++i) {
    static constexpr float kValues[] = {-2, -1, 0.5f, 1, 2, 1, 4, -1};
    const auto bits = static_cast<uint64_t>(random()) * 0x9e3779b97f4a7c15u;
    const float value = kValues[bits >> 61];
    const auto put = [&](auto element) { std::memcpy(&out[i * sizeof(element)], &element, sizeof(element)); };
    if (dtype == DType::kFloat16) {
      put(Float16::from(value).bits);
    } else if (dtype == DType::kBFloat16) {
      put(BFloat16::from(value).bits);
    } else if (dtype == DType::kFloat32) {
      put(value);
    } else if (dtype == DType::kFloat64) {
      put(static_cast<double>(value));
    } else {
      std::memcpy(&out[i * elementSize(dtype)], &bits, elementSize(dtype));
    }
  }
  return out;
}

Bytes allReduced(Rank& rank, DType dtype, ReduceOp op, const Bytes& in) {
  Bytes out(in.size());
  rank.run(make(OpKind::kAllReduce, dtype, in.size() / elementSize(dtype), op), in.data(), out.data());
  return out;
}

void checkReduce(Rank& rank, DType dtype, ReduceOp op, size_t count, int root) {
  const Bytes in = values(dtype, rank.rank, count);
  const Bytes expected = allReduced(rank, dtype, op, in);
  const Bytes untouched(in.size(), std::byte{0x5a});
  const Stamp stamp = make(OpKind::kReduce, dtype, count, op, root);
  const std::string what = std::string(name(dtype)) + " " + name(op) + " x " + std::to_string(count);
  Bytes given = in;
  Bytes out = untouched;
  rank.run(stamp, given.data(), out.data());
  require(given == in, "reduce changed its input: " + what);
  require(out == (rank.rank == root ? expected : untouched), "reduce: " + what);
  rank.run(stamp, given.data(), given.data());
  require(given == (rank.rank == root ? expected : in), "reduce in place: " + what);
}

void checkScatter(Rank& rank, DType dtype, ReduceOp op, size_t count) {
  const auto size = static_cast<size_t>(rank.size);
  const size_t block = count * elementSize(dtype);
  const auto mine = static_cast<ptrdiff_t>(static_cast<size_t>(rank.rank) * block);
  const Bytes in = values(dtype, rank.rank, count * size);
  const Bytes all = allReduced(rank, dtype, op, in);
  const Bytes expected(all.begin() + mine, all.begin() + mine + static_cast<ptrdiff_t>(block));
  const Stamp stamp = make(OpKind::kReduceScatter, dtype, count, op);
  const std::string what = std::string(name(dtype)) + " " + name(op) + " x " + std::to_string(count);
  Bytes given = in;
  Bytes out(block);
  rank.run(stamp, given.data(), out.data());
  require(given == in, "reduceScatter changed its input: " + what);
  require(out == expected, "reduceScatter: " + what);
  rank.run(stamp, given.data(), given.data() + mine);
  require(std::equal(expected.begin(), expected.end(), given.begin() + mine),
          "reduceScatter in place: " + what);
  std::copy_n(in.begin() + mine, block, given.begin() + mine);
  require(given == in, "reduceScatter in place changed the other blocks: " + what);
}

void checkExchange(Rank& rank, size_t bytes) {
  const auto size = static_cast<size_t>(rank.size);
  const auto at = [&](size_t from, size_t to, size_t i) {
    return static_cast<uint8_t>(from * 31 + to * 7 + i);
  };
  std::vector<uint8_t> in(bytes * size);
  std::vector<uint8_t> expected(bytes * size);
  const auto me = static_cast<size_t>(rank.rank);
  for (size_t i = 0; i < in.size(); ++i) {
    in[i] = at(me, i / bytes, i % bytes);
    expected[i] = at(i / bytes, me, i % bytes);
  }
  const std::vector<uint8_t> given = in;
  std::vector<uint8_t> out(bytes * size);
  const Stamp stamp = make(OpKind::kAllToAll, DType::kFloat8E4M3, bytes);
  rank.run(stamp, in.data(), out.data());
  require(out == expected, "allToAll of " + std::to_string(bytes));
  require(in == given, "allToAll changed its input");
  rank.run(stamp, in.data(), in.data());
  require(in == expected, "allToAll in place of " + std::to_string(bytes));
}

// Any bits at all as floats, NaN and infinities included.
std::vector<float> anyFloats(int rank, size_t count) {
  std::mt19937 random(static_cast<unsigned>(rank) + 1);
  std::vector<float> out(count);
  for (float& value : out) {
    const auto bits = static_cast<uint32_t>(random());
    std::memcpy(&value, &bits, sizeof(value));
  }
  return out;
}

// As docs/collectives.md has it: x[g] + (x[g+1] + (... + (x[g-2] + x[g-1]))).
float ringSum(const std::vector<std::vector<float>>& x, size_t share, size_t at) {
  const size_t size = x.size();
  float sum = x[(share + size - 1) % size][at];
  for (size_t step = 2; step <= size; ++step) sum = x[(share + size - step) % size][at] + sum;
  return sum != sum ? std::numeric_limits<float>::quiet_NaN() : sum;
}

void expectCode(int size, ErrorCode code, const std::function<void(Rank&)>& body) {
  const auto errors = runRanks(size, body);
  for (size_t rank = 0; rank < errors.size(); ++rank) {
    CAPTURE(rank);
    CAPTURE(size);
    REQUIRE(errors[rank].has_value());
    CAPTURE(std::string(errors[rank]->what()));
    CHECK(errors[rank]->code == code);
  }
}

}  // namespace

TEST_CASE("every type and operation, 1 to 6 ranks, by each algorithm") {
  for (const nc::gloo::CollectiveLimits& limits : {nc::gloo::CollectiveLimits{}, directOnly(), ringOnly()}) {
    for (int size = 1; size <= 6; ++size) {
      CAPTURE(size);
      expectNoErrors(runRanks(
          size,
          [&](Rank& rank) {
            for (DType dtype = DType::kInt8; dtype <= DType::kFloat64;
                 dtype = static_cast<DType>(static_cast<int>(dtype) + 1)) {
              for (const ReduceOp op : kOps) {
                if (isFloat(dtype) && op >= ReduceOp::kBand) continue;
                for (const size_t count : {0, 1, 5, 100}) {
                  checkReduce(rank, dtype, op, count, static_cast<int>(count) % size);
                  checkScatter(rank, dtype, op, count);
                }
              }
            }
          },
          limits));
    }
  }
}

TEST_CASE("every root, and lengths that no piece divides") {
  for (const size_t piece : {size_t{1}, size_t{64}, size_t{4096}, size_t{1} << 20}) {
    nc::gloo::CollectiveLimits limits = ringOnly();
    limits.ringPiece = piece;
    for (int size = 2; size <= 5; ++size) {
      CAPTURE(size);
      expectNoErrors(runRanks(
          size,
          [&](Rank& rank) {
            for (int root = 0; root < size; ++root) {
              for (const size_t count : {1, 2, 3, 17, 31, 32, 33, 511}) {
                checkReduce(rank, DType::kInt32, ReduceOp::kSum, count, root);
                checkScatter(rank, DType::kInt16, ReduceOp::kSum, count);
              }
            }
          },
          limits));
    }
  }
  for (int size = 2; size <= 9; ++size) {
    expectNoErrors(runRanks(size, [&](Rank& rank) {
      for (int root = 0; root < size; ++root) checkReduce(rank, DType::kInt64, ReduceOp::kSum, 7, root);
    }));
  }
}

TEST_CASE("large sums and averages, by the usual limits") {
  for (const int size : {2, 3, 4}) {
    CAPTURE(size);
    expectNoErrors(runRanks(size, [&](Rank& rank) {
      for (const size_t count : {20'000, 700'001}) {
        checkReduce(rank, DType::kFloat32, ReduceOp::kSum, count, size - 1);
        checkReduce(rank, DType::kBFloat16, ReduceOp::kAvg, count, 0);
        checkScatter(rank, DType::kFloat32, ReduceOp::kSum, count);
        checkScatter(rank, DType::kUint8, ReduceOp::kAvg, count);
      }
    }));
  }
}

TEST_CASE("small sums have the bits of allReduce, whatever the floats") {
  for (int size = 2; size <= 9; ++size) {
    CAPTURE(size);
    expectNoErrors(runRanks(
        size,
        [&](Rank& rank) {
          const auto ranks = static_cast<size_t>(size);
          const size_t count = 60;
          const std::vector<float> in = anyFloats(rank.rank, count * ranks);
          std::vector<float> all(in.size());
          std::vector<float> out(in.size());
          const size_t bytes = in.size() * sizeof(float);
          rank.run(make(OpKind::kAllReduce, DType::kFloat32, in.size(), ReduceOp::kSum), in.data(),
                   all.data());
          for (int root = 0; root < size; ++root) {
            rank.run(make(OpKind::kReduce, DType::kFloat32, in.size(), ReduceOp::kSum, root), in.data(),
                     out.data());
            require(rank.rank != root || sameBytes(out.data(), all.data(), bytes), "reduce");
          }
          rank.run(make(OpKind::kReduceScatter, DType::kFloat32, count, ReduceOp::kSum), in.data(),
                   out.data());
          require(sameBytes(out.data(), &all[static_cast<size_t>(rank.rank) * count], count * sizeof(float)),
                  "reduceScatter");
        },
        directOnly()));
  }
}

TEST_CASE("large sums are taken in the documented order") {
  for (const int size : {2, 3, 5}) {
    const auto ranks = static_cast<size_t>(size);
    const size_t count = 1003;
    std::vector<std::vector<float>> x;
    for (int rank = 0; rank < size; ++rank) x.push_back(anyFloats(rank, count * ranks));
    std::vector<float> scattered(count * ranks);
    std::vector<float> reduced(count * ranks - 1);
    const size_t share = (reduced.size() + ranks - 1) / ranks;
    for (size_t i = 0; i < scattered.size(); ++i) scattered[i] = ringSum(x, i / count, i);
    for (size_t i = 0; i < reduced.size(); ++i) reduced[i] = ringSum(x, i / share, i);
    expectNoErrors(runRanks(
        size,
        [&](Rank& rank) {
          const auto me = static_cast<size_t>(rank.rank);
          std::vector<float> out(count * ranks);
          rank.run(make(OpKind::kReduceScatter, DType::kFloat32, count, ReduceOp::kSum), x[me].data(),
                   out.data());
          require(sameBytes(out.data(), &scattered[me * count], count * sizeof(float)), "reduceScatter");
          rank.run(make(OpKind::kReduce, DType::kFloat32, reduced.size(), ReduceOp::kSum, 1), x[me].data(),
                   out.data());
          require(me != 1 || sameBytes(out.data(), reduced.data(), reduced.size() * sizeof(float)), "reduce");
        },
        ringOnly()));
  }
}

TEST_CASE("allToAll takes each block to its rank") {
  for (const nc::gloo::CollectiveLimits& limits : {nc::gloo::CollectiveLimits{}, ringOnly()}) {
    for (int size = 1; size <= 7; ++size) {
      CAPTURE(size);
      expectNoErrors(runRanks(
          size,
          [](Rank& rank) {
            for (const size_t bytes : {1, 3, 64, 1000, 300'000}) checkExchange(rank, bytes);
          },
          limits));
    }
  }
}

TEST_CASE("the first message may have been sent before") {
  for (int size = 1; size <= 6; ++size) {
    CAPTURE(size);
    for (const nc::gloo::CollectiveLimits& limits : {nc::gloo::CollectiveLimits{}, directOnly()}) {
      std::atomic<int> sent{0};
      expectNoErrors(runRanks(
          size,
          [&](Rank& rank) {
            const auto ranks = static_cast<size_t>(size);
            const auto me = static_cast<size_t>(rank.rank);
            for (const OpKind kind : {OpKind::kReduce, OpKind::kReduceScatter, OpKind::kAllToAll}) {
              for (size_t root = 0; root < ranks; ++root) {
                std::vector<int32_t> in(ranks);
                for (size_t i = 0; i < ranks; ++i) in[i] = static_cast<int32_t>(me * 100 + i);
                std::vector<int32_t> out(ranks);
                const bool one = kind == OpKind::kReduce;
                Stamp stamp = make(kind, DType::kInt32, one ? ranks : 1,
                                   kind == OpKind::kAllToAll ? ReduceOp::kNone : ReduceOp::kSum,
                                   one ? static_cast<int>(root) : -1);
                stamp.seq = ++rank.seq;
                const auto first = rank.collectives.firstMessage(stamp);
                bool did = false;
                if (first) {
                  did = rank.mesh.trySend(first->peer, first->slot, stamp,
                                          reinterpret_cast<std::byte*>(in.data()) + first->offset,
                                          first->bytes);
                  if (did) sent.fetch_add(1);
                }
                rank.collectives.run({stamp, Deadline::in(Millis(60000)), in.data(), out.data(), did});
                const auto sum = [&](size_t i) {
                  return static_cast<int32_t>(50 * ranks * (ranks - 1) + i * ranks);
                };
                if (kind == OpKind::kAllToAll) {
                  for (size_t i = 0; i < ranks; ++i)
                    require(out[i] == static_cast<int32_t>(i * 100 + me), "allToAll");
                } else if (kind == OpKind::kReduceScatter) {
                  require(out[0] == sum(me), "reduceScatter");
                } else if (me == root) {
                  for (size_t i = 0; i < ranks; ++i) require(out[i] == sum(i), "reduce");
                }
              }
            }
          },
          limits));
      CHECK((sent.load() > 0) == (size > 1));
    }
  }
}

TEST_CASE("calls that do not match fail on every rank") {
  for (const int size : {2, 3, 4}) {
    const auto each = [&](const Stamp& usual, const Stamp& odd) {
      expectCode(size, ErrorCode::kCollectiveMismatch, [&](Rank& rank) {
        std::vector<int32_t> in(200'000 * static_cast<size_t>(size));
        std::vector<int32_t> out(200'000 * static_cast<size_t>(size));
        rank.run(rank.rank == 1 ? odd : usual, in.data(), out.data());
        // A rank whose part is only to send hears of it in the next operation at the latest.
        rank.run(make(OpKind::kBarrier), nullptr, nullptr);
      });
    };
    for (const size_t count : {size_t{4}, size_t{150'000}}) {
      const Stamp reduce = make(OpKind::kReduce, DType::kInt32, count, ReduceOp::kSum, 0);
      each(reduce, make(OpKind::kReduce, DType::kInt32, count, ReduceOp::kSum, 1));
      each(reduce, make(OpKind::kReduce, DType::kInt32, count + 1, ReduceOp::kSum, 0));
      each(reduce, make(OpKind::kAllReduce, DType::kInt32, count, ReduceOp::kSum));
      const Stamp scatter = make(OpKind::kReduceScatter, DType::kInt32, count, ReduceOp::kSum);
      each(scatter, make(OpKind::kReduceScatter, DType::kInt32, count, ReduceOp::kMax));
      each(scatter, make(OpKind::kReduceScatter, DType::kInt32, count + 1, ReduceOp::kSum));
      each(scatter, make(OpKind::kReduceScatter, DType::kInt32, 0, ReduceOp::kSum));
      each(scatter, make(OpKind::kBarrier));
      const Stamp exchange = make(OpKind::kAllToAll, DType::kInt32, count);
      each(exchange, make(OpKind::kAllToAll, DType::kInt32, count + 1));
      each(exchange, make(OpKind::kAllToAll, DType::kUint32, count));
      each(exchange, make(OpKind::kAllGather, DType::kInt32, count));
    }
  }
}

TEST_CASE("an error in the middle leaves nothing posted") {
  for (const OpKind kind : {OpKind::kReduce, OpKind::kReduceScatter, OpKind::kAllToAll}) {
    for (const size_t count : {size_t{1}, size_t{1} << 20}) {
      std::atomic<int> ended{0};
      const auto errors = runRanks(3, [&](Rank& rank) {
        if (rank.rank == 2) {  // never comes
          for (int n = ended.load(); n < 2; n = ended.load()) ended.wait(n);
          return;
        }
        std::vector<int32_t> in(3 * count);
        std::vector<int32_t> out(3 * count);
        const ReduceOp op = kind == OpKind::kAllToAll ? ReduceOp::kNone : ReduceOp::kSum;
        const int root = kind == OpKind::kReduce ? 0 : -1;
        const auto arrive = [&] {
          ended.fetch_add(1);
          ended.notify_all();
        };
        try {
          rank.run(make(kind, DType::kInt32, count, op, root), in.data(), out.data(), Millis(100));
          // A rank that only sends may be done with its part.
          rank.run(make(OpKind::kBarrier), nullptr, nullptr, Millis(100));
        } catch (...) {
          arrive();
          throw;
        }
        arrive();
      });
      for (const size_t rank : {0, 1}) {
        REQUIRE(errors[rank].has_value());
        CHECK(errors[rank]->code == ErrorCode::kTimeout);
      }
    }
  }
}

TEST_CASE("a caller's mistake is found before anything is sent and costs nothing") {
  expectNoErrors(runRanks(2, [](Rank& rank) {
    int32_t data[4] = {1, 2, 3, 4};
    const auto refused = [&](const Stamp& stamp, const void* in, void* out) {
      try {
        rank.run(stamp, in, out);
      } catch (const Error& error) {
        --rank.seq;
        require(error.code == ErrorCode::kInvalidArgument, error.what());
        return;
      }
      throw Error(ErrorCode::kInternal, "accepted");
    };
    refused(make(OpKind::kReduce, DType::kInt32, 2, ReduceOp::kSum, 2), data, data);
    refused(make(OpKind::kReduce, DType::kInt32, 2, ReduceOp::kSum, -1), data, data);
    refused(make(OpKind::kReduce, DType::kInt32, 2, ReduceOp::kNone, 0), data, data);
    refused(make(OpKind::kReduce, DType::kInt32, 2, ReduceOp::kSum, rank.rank), data, nullptr);
    refused(make(OpKind::kReduce, DType::kFloat8E4M3, 2, ReduceOp::kSum, 0), data, data);
    refused(make(OpKind::kReduceScatter, DType::kFloat32, 2, ReduceOp::kBxor), data, data);
    refused(make(OpKind::kReduceScatter, DType::kFloat8E5M2, 2, ReduceOp::kAvg), data, data);
    refused(make(OpKind::kAllToAll, DType::kInt32, 2), nullptr, data);
    refused(make(OpKind::kAllToAll, DType::kInt32, 2), data, nullptr);
    refused(make(OpKind::kAllToAll, DType{99}, 2), data, data);
    require(!rank.mesh.failed(), "the group has failed");
    rank.run(make(OpKind::kReduceScatter, DType::kInt32, 2, ReduceOp::kSum), data, data + 2 * rank.rank);
    require(data[2 * rank.rank] == 2 * (2 * rank.rank + 1), "wrong sum");
  }));
}
