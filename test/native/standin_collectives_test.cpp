// The stand-in for NCCL: ranks in processes of their own, every collective against a plain computation.
#include <cmath>
#include <limits>

#include "standin_ranks.h"

using namespace standin_test;

namespace {

const Env kStrict{{"NC_STANDIN_STRICT_EXIT", "1"}, {"NC_STANDIN_REPORT", "1"}};

// Small values, so that all types hold every result exactly; never 0, so that products say something.
int64_t valueOf(int rank, size_t index) {
  return static_cast<int64_t>((static_cast<size_t>(rank) + index) % 3) + 1;
}

// Bits of small integers in the floats that C++ has no type for.
uint16_t halfOf(int64_t value) {
  const int exponent = std::ilogb(static_cast<double>(value));
  return static_cast<uint16_t>(((exponent + 15) << 10) | ((value << (10 - exponent)) & 0x3ff));
}
uint16_t bfloatOf(int64_t value) {
  const auto number = static_cast<float>(value);
  uint32_t bits = 0;
  std::memcpy(&bits, &number, sizeof bits);
  return static_cast<uint16_t>(bits >> 16);
}
uint8_t fp8Of(int64_t value, int exponentBits, int fractionBits) {
  const int exponent = std::ilogb(static_cast<double>(value));
  const int bias = (1 << (exponentBits - 1)) - 1;
  const int64_t fraction =
      fractionBits >= exponent ? value << (fractionBits - exponent) : value >> (exponent - fractionBits);
  return static_cast<uint8_t>(((exponent + bias) << fractionBits) | (fraction & ((1 << fractionBits) - 1)));
}

template <typename T>
void encode(std::vector<std::byte>& out, T value) {
  const auto* const bytes = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof value);
}

void encodeAs(int type, int64_t value, std::vector<std::byte>& out) {
  switch (type) {
    case codes::kInt8:
      return encode(out, static_cast<int8_t>(value));
    case codes::kUint8:
      return encode(out, static_cast<uint8_t>(value));
    case codes::kInt32:
      return encode(out, static_cast<int32_t>(value));
    case codes::kUint32:
      return encode(out, static_cast<uint32_t>(value));
    case codes::kInt64:
    case codes::kUint64:
      return encode(out, value);
    case codes::kFloat16:
      return encode(out, halfOf(value));
    case codes::kFloat32:
      return encode(out, static_cast<float>(value));
    case codes::kFloat64:
      return encode(out, static_cast<double>(value));
    case codes::kBfloat16:
      return encode(out, bfloatOf(value));
    case codes::kFloat8E4M3:
      return encode(out, fp8Of(value, 4, 3));
    default:
      return encode(out, fp8Of(value, 5, 2));
  }
}

template <typename Value>
std::vector<std::byte> encoded(int type, size_t count, const Value& value) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < count; ++i) encodeAs(type, value(i), bytes);
  return bytes;
}

}  // namespace

TEST_CASE("allReduce over three processes gives the sum, in place and not, at sizes around the pieces") {
  for (const bool blocking : {false, true}) {
    const Shared shared;
    checkRanks(
        3,
        [&](int number) {
          Rank rank(shared.board, number, 3, blocking);
          for (const size_t count :
               {size_t{1}, size_t{2}, size_t{1000}, size_t{1} << 20, (size_t{3} << 20) + 5}) {
            std::vector<int32_t> values(count);
            for (size_t i = 0; i < count; ++i) values[i] = static_cast<int32_t>(i) * (number + 1);
            const auto in = rank.put(values);
            const auto out = rank.memory(count * 4);
            rank.issued(rank.ncclAllReduce(pointer(in), pointer(out), count, codes::kInt32, codes::kSum,
                                           rank.comm, rank.queue));
            rank.done(rank.ncclAllReduce(pointer(in), pointer(in), count, codes::kInt32, codes::kMax,
                                         rank.comm, rank.queue));
            const auto sums = rank.get<int32_t>(out, count);
            const auto most = rank.get<int32_t>(in, count);
            for (size_t i = 0; i < count; ++i) {
              REQUIRE_CHILD(sums[i] == static_cast<int32_t>(i) * 6);
              REQUIRE_CHILD(most[i] == static_cast<int32_t>(i) * 3);
            }
            REQUIRE_CHILD(rank.cuMemFree_v2(in) == 0);
            REQUIRE_CHILD(rank.cuMemFree_v2(out) == 0);
          }
          rank.end();
        },
        kStrict);
  }
}

TEST_CASE("every reduction of every type, by allReduce, reduce and reduceScatter") {
  const Shared shared;
  constexpr int kRanks = 2;
  constexpr size_t kCount = 37;
  checkRanks(
      kRanks,
      [&](int number) {
        Rank rank(shared.board, number, kRanks, false, "libnccl-2.29.so.2");
        for (int type = 0; type <= codes::kFloat8E5M2; ++type) {
          const size_t element =
              codes::kFloat8E4M3 <= type ? 1 : encoded(type, 1, [](size_t) { return 1; }).size();
          for (int op = codes::kSum; op <= codes::kAvg; ++op) {
            // The mean of two small integers is exact where halves are, and cut down in integers.
            const auto in =
                rank.put(encoded(type, kCount * kRanks, [&](size_t i) { return valueOf(number, i) * 2; }));
            const auto want = [&](size_t i) {
              int64_t first = valueOf(0, i) * 2;
              const int64_t second = valueOf(1, i) * 2;
              if (op == codes::kSum) return first + second;
              if (op == codes::kProd) return first * second;
              if (op == codes::kMax) return std::max(first, second);
              if (op == codes::kMin) return std::min(first, second);
              return (first + second) / 2;
            };
            const auto out = rank.memory(kCount * element);
            const auto check = [&](const char* what, size_t from) {
              const auto got = rank.get<std::byte>(out, kCount * element);
              const auto wanted = encoded(type, kCount, [&](size_t i) { return want(from + i); });
              if (got != wanted) std::fprintf(stderr, "%s of type %d, op %d\n", what, type, op);
              REQUIRE_CHILD(got == wanted);
            };
            rank.done(rank.ncclAllReduce(pointer(in), pointer(out), kCount, type, op, rank.comm, rank.queue));
            check("allReduce", 0);
            rank.done(
                rank.ncclReduceScatter(pointer(in), pointer(out), kCount, type, op, rank.comm, rank.queue));
            check("reduceScatter", kCount * static_cast<size_t>(number));
            rank.done(rank.cuMemsetD8Async(out, 0, kCount * element, rank.queue));
            rank.done(rank.ncclReduce(pointer(in), pointer(out), kCount, type, op, 1, rank.comm, rank.queue));
            if (number == 1) check("reduce", 0);
            if (number != 1)
              REQUIRE_CHILD(rank.get<std::byte>(out, element) ==
                            std::vector<std::byte>(element, std::byte{0}));
            REQUIRE_CHILD(rank.cuMemFree_v2(in) == 0);
            REQUIRE_CHILD(rank.cuMemFree_v2(out) == 0);
          }
        }
        rank.end();
      },
      kStrict);
}

TEST_CASE("integers wrap, small floats round to even and overflow to infinity, maxima pass by NaN") {
  const Shared shared;
  checkRanks(2, [&](int number) {
    Rank rank(shared.board, number, 2);
    const auto sum = [&](auto mine, auto theirs, int type, int op) {
      using T = decltype(mine);
      const auto in = rank.put(std::vector<T>{number == 0 ? mine : theirs});
      rank.done(rank.ncclAllReduce(pointer(in), pointer(in), 1, type, op, rank.comm, rank.queue));
      const T got = rank.get<T>(in, 1)[0];
      REQUIRE_CHILD(rank.cuMemFree_v2(in) == 0);
      return got;
    };
    REQUIRE_CHILD(sum(int8_t{127}, int8_t{1}, codes::kInt8, codes::kSum) == -128);
    REQUIRE_CHILD(sum(INT32_MAX, 1, codes::kInt32, codes::kSum) == INT32_MIN);
    REQUIRE_CHILD(sum(int32_t{-3}, int32_t{0}, codes::kInt32, codes::kAvg) == -1);
    // 2048 + 1 lies between 2048 and 2050 in float16; 65504 is its largest.
    REQUIRE_CHILD(sum(uint16_t{0x6800}, uint16_t{0x3c00}, codes::kFloat16, codes::kSum) == 0x6800);
    REQUIRE_CHILD(sum(uint16_t{0x7bff}, uint16_t{0x7bff}, codes::kFloat16, codes::kSum) == 0x7c00);
    // Two of float16's smallest subnormals.
    REQUIRE_CHILD(sum(uint16_t{0x0001}, uint16_t{0x0001}, codes::kFloat16, codes::kSum) == 0x0002);
    REQUIRE_CHILD(sum(uint16_t{0x7f7f}, uint16_t{0x7f7f}, codes::kBfloat16, codes::kSum) == 0x7f80);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    REQUIRE_CHILD(sum(nan, 2.0f, codes::kFloat32, codes::kMax) == 2.0f);
    rank.end();
  });
}

TEST_CASE("broadcast, bcast and allGather, in place and not") {
  const Shared shared;
  constexpr size_t kCount = 100'003;
  checkRanks(
      3,
      [&](int number) {
        Rank rank(shared.board, number, 3);
        const auto in = rank.put(std::vector<uint8_t>(kCount, static_cast<uint8_t>(number + 1)));
        const auto out = rank.memory(kCount * 3);
        for (int root = 0; root < 3; ++root) {
          rank.done(rank.ncclBroadcast(pointer(in), pointer(out), kCount, codes::kUint8, root, rank.comm,
                                       rank.queue));
          REQUIRE_CHILD(rank.get<uint8_t>(out, kCount) ==
                        std::vector<uint8_t>(kCount, static_cast<uint8_t>(root + 1)));
        }
        std::vector<uint8_t> all;
        for (int peer = 0; peer < 3; ++peer) all.insert(all.end(), kCount, static_cast<uint8_t>(peer + 1));
        rank.done(
            rank.ncclAllGather(pointer(in), pointer(out), kCount, codes::kUint8, rank.comm, rank.queue));
        REQUIRE_CHILD(rank.get<uint8_t>(out, kCount * 3) == all);
        REQUIRE_CHILD(rank.cuMemsetD8Async(out, 0, kCount * 3, rank.queue) == 0);
        const auto own = out + static_cast<size_t>(number) * kCount;
        REQUIRE_CHILD(rank.cuMemcpyDtoDAsync_v2(own, in, kCount, rank.queue) == 0);
        rank.done(
            rank.ncclAllGather(pointer(own), pointer(out), kCount, codes::kUint8, rank.comm, rank.queue));
        REQUIRE_CHILD(rank.get<uint8_t>(out, kCount * 3) == all);
        rank.done(rank.ncclBcast(pointer(in), kCount, codes::kUint8, 2, rank.comm, rank.queue));
        REQUIRE_CHILD(rank.get<uint8_t>(in, 1)[0] == 3);
        REQUIRE_CHILD(rank.cuMemFree_v2(in) == 0);
        REQUIRE_CHILD(rank.cuMemFree_v2(out) == 0);
        rank.end();
      },
      kStrict);
}

TEST_CASE("an exchange of all with all, oneself included, in one group") {
  const Shared shared;
  constexpr size_t kCount = 50'000;  // more than a ring holds
  checkRanks(
      3,
      [&](int number) {
        Rank rank(shared.board, number, 3);
        std::vector<int32_t> values;
        for (int peer = 0; peer < 3; ++peer) values.insert(values.end(), kCount, number * 10 + peer);
        const auto in = rank.put(values);
        const auto out = rank.memory(values.size() * 4);
        REQUIRE_CHILD(rank.ncclGroupStart() == 0);
        for (int peer = 0; peer < 3; ++peer) {
          const size_t at = static_cast<size_t>(peer) * kCount * 4;
          REQUIRE_CHILD(rank.ncclSend(pointer(in + at), kCount, codes::kInt32, peer, rank.comm, rank.queue) ==
                        0);
          REQUIRE_CHILD(
              rank.ncclRecv(pointer(out + at), kCount, codes::kInt32, peer, rank.comm, rank.queue) == 0);
        }
        rank.done(rank.ncclGroupEnd());
        const auto got = rank.get<int32_t>(out, values.size());
        for (size_t i = 0; i < got.size(); ++i)
          REQUIRE_CHILD(got[i] == static_cast<int32_t>(i / kCount) * 10 + number);
        REQUIRE_CHILD(rank.cuMemFree_v2(in) == 0);
        REQUIRE_CHILD(rank.cuMemFree_v2(out) == 0);
        rank.end();
      },
      kStrict);
}

TEST_CASE("operations on several streams of one communicator keep their order") {
  const Shared shared;
  checkRanks(2, [&](int number) {
    Rank rank(shared.board, number, 2);
    void* const other = rank.stream();
    const auto data = rank.put(std::vector<int32_t>{number + 1});
    rank.await(rank.queue);
    // 3, 6, 12, ...: each operation needs the one before, which is on the other stream.
    for (int round = 0; round < 8; ++round)
      rank.issued(rank.ncclAllReduce(pointer(data), pointer(data), 1, codes::kInt32, codes::kSum, rank.comm,
                                     round % 2 == 0 ? rank.queue : other));
    rank.await(other);
    REQUIRE_CHILD(rank.get<int32_t>(data, 1)[0] == 3 << 7);
    REQUIRE_CHILD(rank.cuStreamDestroy_v2(other) == 0);
    rank.end();
  });
}

TEST_CASE("a communicator that does not block launches late: an event recorded at once does not cover it") {
  const Shared shared;
  checkRanks(1, [&](int number) {
    Rank rank(shared.board, number, 1);
    const auto data = rank.put(std::vector<int32_t>{1});
    rank.await(rank.queue);
    // Most calls answer that they are in progress, and another call is refused until they are through.
    bool late = false;
    for (int i = 0; i < 200 && !late; ++i) {
      const int first = rank.ncclAllReduce(pointer(data), pointer(data), 1, codes::kInt32, codes::kSum,
                                           rank.comm, rank.queue);
      const int second = rank.ncclAllReduce(pointer(data), pointer(data), 1, codes::kInt32, codes::kSum,
                                            rank.comm, rank.queue);
      if (first == codes::kInProgress && second == codes::kInvalidArgument) {
        late = true;
        REQUIRE_CHILD(contains(rank.ncclGetLastError(rank.comm), "before the previous operation returned"));
      }
      rank.settle();
    }
    REQUIRE_CHILD(late);
    rank.end();
  });
}
