// broadcast, allGather, barrier, long runs of mixed operations, and how operations fail.
#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <vector>

#include "gloo_ranks.h"

using namespace nc;
using namespace nc::test;

namespace {

const size_t kCounts[] = {0, 1, 2, 3, 17, 1000, 100003};

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

int32_t pattern(int rank, size_t at) {
  return static_cast<int32_t>(static_cast<size_t>(rank) * 1000003 + at * 7);
}

std::vector<int32_t> patterns(int rank, size_t count) {
  std::vector<int32_t> data(count);
  for (size_t i = 0; i < count; ++i) data[i] = pattern(rank, i);
  return data;
}

void checkBroadcast(Rank& rank, int root, size_t count) {
  const std::vector<int32_t> expected = patterns(root, count);
  const std::vector<int32_t> mine = patterns(rank.rank, count);
  std::vector<int32_t> out(count, -1);
  const Stamp stamp = make(OpKind::kBroadcast, DType::kInt32, count, ReduceOp::kNone, root);
  rank.run(stamp, rank.rank == root ? mine.data() : nullptr, out.data());
  require(out == expected, "broadcast");
  out = mine;
  rank.run(stamp, out.data(), out.data());
  require(out == expected, "broadcast in place");
}

void checkAllGather(Rank& rank, size_t count) {
  const std::vector<int32_t> mine = patterns(rank.rank, count);
  std::vector<int32_t> expected;
  for (int r = 0; r < rank.size; ++r) {
    const auto part = patterns(r, count);
    expected.insert(expected.end(), part.begin(), part.end());
  }
  std::vector<int32_t> out(count * static_cast<size_t>(rank.size), -1);
  const Stamp stamp = make(OpKind::kAllGather, DType::kInt32, count);
  rank.run(stamp, mine.data(), out.data());
  require(out == expected, "allGather");
  std::fill(out.begin(), out.end(), -1);
  int32_t* const place = out.data() + static_cast<size_t>(rank.rank) * count;
  std::copy(mine.begin(), mine.end(), place);
  rank.run(stamp, place, out.data());
  require(out == expected, "allGather in place");
  std::fill(out.begin(), out.end(), -1);
  std::copy(mine.begin(), mine.end(), out.begin());
  rank.run(stamp, out.data(), out.data());
  require(out == expected, "allGather from the front");
}

void expectMismatch(int size, const std::function<void(Rank&)>& body) {
  const auto errors = runRanks(size, body);
  for (size_t rank = 0; rank < errors.size(); ++rank) {
    CAPTURE(rank);
    CAPTURE(size);
    REQUIRE(errors[rank].has_value());
    CAPTURE(std::string(errors[rank]->what()));
    CHECK(errors[rank]->code == ErrorCode::kCollectiveMismatch);
  }
}

}  // namespace

TEST_CASE("broadcast from every root") {
  for (int size = 1; size <= 9; ++size) {
    CAPTURE(size);
    expectNoErrors(runRanks(size, [&](Rank& rank) {
      for (int root = 0; root < size; ++root) {
        for (const size_t count : kCounts) checkBroadcast(rank, root, count);
      }
    }));
  }
}

TEST_CASE("allGather places each rank's part") {
  for (int size = 1; size <= 9; ++size) {
    CAPTURE(size);
    expectNoErrors(runRanks(size, [](Rank& rank) {
      for (const size_t count : kCounts) checkAllGather(rank, count);
    }));
  }
  // Odd bytes, which Gloo's ring halves.
  expectNoErrors(runRanks(5, [](Rank& rank) {
    for (const size_t count : {1, 3, 60001}) {
      std::vector<uint8_t> mine(count, static_cast<uint8_t>(rank.rank + 1));
      std::vector<uint8_t> out(count * 5);
      rank.run(make(OpKind::kAllGather, DType::kUint8, count), mine.data(), out.data());
      for (size_t i = 0; i < out.size(); ++i) require(out[i] == i / count + 1, "wrong part");
    }
  }));
}

TEST_CASE("nobody leaves a barrier before all have come") {
  for (int size = 1; size <= 9; ++size) {
    std::atomic<int> came{0};
    expectNoErrors(runRanks(size, [&](Rank& rank) {
      for (int round = 1; round <= 50; ++round) {
        came.fetch_add(1);
        // Empty operations synchronise as well.
        if (round % 3 == 0) {
          rank.run(make(OpKind::kAllReduce, DType::kInt8, 0, ReduceOp::kSum), nullptr, nullptr);
        } else {
          rank.run(make(OpKind::kBarrier), nullptr, nullptr);
        }
        require(came.load() >= round * size, "left too early");
      }
    }));
  }
}

TEST_CASE("many mixed operations back to back") {
  for (const int size : {2, 4, 7}) {
    expectNoErrors(runRanks(size, [&](Rank& rank) {
      for (int round = 0; round < 300; ++round) {
        const size_t count = static_cast<size_t>(round) * 37 % 9000;
        int64_t vote = (round * 31 + rank.rank * 17) % 101;
        int64_t expected = 0;
        for (int r = 0; r < size; ++r) expected = std::max<int64_t>(expected, (round * 31 + r * 17) % 101);
        rank.run(make(OpKind::kAllReduce, DType::kInt64, 1, ReduceOp::kMax), &vote, &vote);
        require(vote == expected, "wrong vote");
        if (round % 5 == 0) checkBroadcast(rank, round % size, count);
        if (round % 7 == 0) checkAllGather(rank, count);
        if (round % 11 == 0) rank.run(make(OpKind::kBarrier), nullptr, nullptr);
      }
      require(rank.mesh.earlyFrames() == 0, "frames left over");
    }));
  }
}

TEST_CASE("calls that do not match fail on every rank") {
  for (const int size : {2, 3, 4, 7}) {
    const auto each = [&](const Stamp& usual, const Stamp& odd) {
      expectMismatch(size, [&](Rank& rank) {
        std::vector<int32_t> in(200'000);
        std::vector<int32_t> out(200'000 * static_cast<size_t>(size));
        rank.run(make(OpKind::kBarrier), nullptr, nullptr);
        rank.run(rank.rank == 1 ? odd : usual, in.data(), out.data());
        // A broadcast's root hears from nobody; it learns of it in the next operation at the latest.
        rank.run(make(OpKind::kBarrier), nullptr, nullptr);
      });
    };
    const Stamp sum = make(OpKind::kAllReduce, DType::kInt32, 4, ReduceOp::kSum);
    each(sum, make(OpKind::kAllReduce, DType::kInt32, 5, ReduceOp::kSum));
    each(sum, make(OpKind::kAllReduce, DType::kUint32, 4, ReduceOp::kSum));
    each(sum, make(OpKind::kAllReduce, DType::kInt32, 4, ReduceOp::kMax));
    each(sum, make(OpKind::kAllReduce, DType::kInt32, 0, ReduceOp::kSum));
    each(sum, make(OpKind::kAllReduce, DType::kInt32, 200'000, ReduceOp::kSum));
    each(make(OpKind::kAllReduce, DType::kInt32, 200'000, ReduceOp::kSum),
         make(OpKind::kAllReduce, DType::kInt32, 199'999, ReduceOp::kSum));
    each(sum, make(OpKind::kBarrier));
    each(make(OpKind::kBarrier), make(OpKind::kAllGather, DType::kInt32, 100'000));
    each(make(OpKind::kBroadcast, DType::kInt32, 4, ReduceOp::kNone, 0),
         make(OpKind::kBroadcast, DType::kInt32, 4, ReduceOp::kNone, 1));
    each(make(OpKind::kBroadcast, DType::kInt32, 4, ReduceOp::kNone, 0),
         make(OpKind::kBroadcast, DType::kInt32, 9, ReduceOp::kNone, 0));
  }
}

TEST_CASE("an error passes through Gloo's frames and leaves nothing posted") {
  for (const OpKind kind : {OpKind::kAllReduce, OpKind::kAllGather, OpKind::kBroadcast}) {
    std::atomic<int> ended{0};
    const auto errors = runRanks(3, [&](Rank& rank) {
      rank.run(make(OpKind::kBarrier), nullptr, nullptr);
      if (rank.rank == 2) {  // never comes
        for (int n = ended.load(); n < 2; n = ended.load()) ended.wait(n);
        return;
      }
      const auto arrive = [&] {
        ended.fetch_add(1);
        ended.notify_all();
      };
      std::vector<int32_t> in(1 << 20);
      std::vector<int32_t> out(3 << 20);
      const ReduceOp op = kind == OpKind::kAllReduce ? ReduceOp::kSum : ReduceOp::kNone;
      try {
        rank.run(make(kind, DType::kInt32, 1 << 20, op, kind == OpKind::kBroadcast ? 2 : -1), in.data(),
                 out.data(), Millis(100));
      } catch (...) {
        arrive();
        CHECK(rank.mesh.failed());
        CHECK_THROWS_AS(rank.run(make(OpKind::kBarrier), nullptr, nullptr), Error);
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

TEST_CASE("a cancelled group ends its operation with the cause") {
  const auto errors = runRanks(4, [](Rank& rank) {
    rank.run(make(OpKind::kBarrier), nullptr, nullptr);
    if (rank.rank == 3) rank.cancel.cancel(Error(ErrorCode::kAborted, "aborted by the test"));
    std::vector<int32_t> data(1 << 20);
    rank.run(make(OpKind::kAllReduce, DType::kInt32, data.size(), ReduceOp::kSum), data.data(), data.data());
  });
  for (const auto& error : errors) {
    REQUIRE(error.has_value());
    CAPTURE(std::string(error->what()));
    CHECK(error->code == ErrorCode::kAborted);
  }
}

TEST_CASE("a caller's mistake is found before anything is sent and costs nothing") {
  expectNoErrors(runRanks(2, [](Rank& rank) {
    int32_t data[2] = {1, 2};
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
    refused(make(OpKind::kAllReduce, DType::kInt32, 2, ReduceOp::kSum), data, nullptr);
    refused(make(OpKind::kAllReduce, DType::kInt32, 2, ReduceOp::kSum), nullptr, data);
    refused(make(OpKind::kAllReduce, DType::kFloat32, 2, ReduceOp::kBxor), data, data);
    refused(make(OpKind::kAllReduce, DType::kInt32, 2, ReduceOp::kNone), data, data);
    refused(make(OpKind::kAllReduce, DType{99}, 2, ReduceOp::kAvg), data, data);
    refused(make(OpKind::kBroadcast, DType::kInt32, 2, ReduceOp::kNone, 2), data, data);
    refused(make(OpKind::kBroadcast, DType::kInt32, 2, ReduceOp::kNone, -1), data, data);
    refused(make(OpKind::kAllGather, DType::kInt32, uint64_t{1} << 62), data, data);
    require(!rank.mesh.failed(), "the group has failed");
    rank.run(make(OpKind::kAllReduce, DType::kInt32, 2, ReduceOp::kSum), data, data);
    require(data[0] == 2 && data[1] == 4, "wrong sum");
  }));
}
