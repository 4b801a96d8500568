// The record of a group's operations, and the histogram that its latencies go into.
#include "group/recorder.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace nc::group {
namespace {

Stamp stampOf(uint64_t seq, OpKind kind = OpKind::kAllReduce) {
  Stamp stamp;
  stamp.seq = seq;
  stamp.kind = kind;
  stamp.dtype = DType::kInt32;
  stamp.reduceOp = ReduceOp::kMax;
  stamp.count = 3;
  return stamp;
}

TEST_CASE("a record goes from running to done, and keeps its times in order") {
  Recorder recorder(2);
  const auto called = Clock::now();
  recorder.begun(stampOf(1), called);
  REQUIRE(recorder.operations().size() == 1);
  CHECK(recorder.operations()[0].state == OperationState::kRunning);
  CHECK(recorder.running() == 1);
  recorder.ended(1, "recursive doubling", Millis{2}, nullptr);
  const OperationRecord record = recorder.operations().at(0);
  CHECK(record.state == OperationState::kDone);
  CHECK(record.stamp == stampOf(1));
  CHECK(std::string(record.path) == "recursive doubling");
  CHECK(record.called == called);
  CHECK(*record.begun >= called);
  CHECK(*record.ended >= *record.begun);
  CHECK(record.waited == Millis{2});
  CHECK_FALSE(record.error);
  CHECK(recorder.running() == 0);
  const Counters counters = recorder.counters();
  const KindCounters& kind = counters.kinds.at(OpKind::kAllReduce);
  CHECK(kind.latency.count() == 1);
  CHECK(kind.bytes == 12);
  CHECK(kind.failed == 0);
  CHECK(kind.waited == Millis{2});
}

TEST_CASE("a failure keeps its code and who was missing, and counts as no latency") {
  Recorder recorder(2);
  recorder.begun(stampOf(1), Clock::now());
  ErrorFacts facts;
  facts.missing = {2, 5};
  const Error error(ErrorCode::kTimeout, "late", facts);
  recorder.ended(1, nullptr, {}, &error);
  recorder.dropped(stampOf(2, OpKind::kBarrier), Clock::now(), error);
  const auto records = recorder.operations();
  REQUIRE(records.size() == 2);
  for (const OperationRecord& record : records) {
    CHECK(record.state == OperationState::kFailed);
    CHECK(record.error == ErrorCode::kTimeout);
    CHECK(record.missing == facts.missing);
  }
  CHECK(records[0].begun);
  CHECK_FALSE(records[1].begun);
  const Counters counters = recorder.counters();
  CHECK(counters.failures.at(ErrorCode::kTimeout) == 2);
  CHECK(counters.kinds.at(OpKind::kAllReduce).failed == 1);
  CHECK(counters.kinds.at(OpKind::kAllReduce).bytes == 0);
  CHECK(counters.kinds.at(OpKind::kAllReduce).latency.count() == 0);
}

TEST_CASE("bytes are what this rank contributes") {
  const Recorder recorder(4);
  const auto bytes = [&](OpKind kind) { return recorder.queued(stampOf(1, kind), Clock::now()).bytes; };
  CHECK(bytes(OpKind::kBarrier) == 0);
  CHECK(bytes(OpKind::kAllGather) == 12);
  CHECK(bytes(OpKind::kReduceScatter) == 48);
  CHECK(bytes(OpKind::kAllToAll) == 48);
}

TEST_CASE("the last 256 are kept, oldest first, and found by number") {
  Recorder recorder(2);
  for (uint64_t seq = 1; seq <= 1000; ++seq) {
    recorder.begun(stampOf(seq), Clock::now());
    recorder.ended(seq, "alone", {}, nullptr);
  }
  recorder.begun(stampOf(1001), Clock::now());
  const auto records = recorder.operations();
  REQUIRE(records.size() == Recorder::kKept + 1);
  for (size_t i = 0; i < records.size(); ++i) CHECK(records[i].stamp.seq == 1001 - Recorder::kKept + i);
  CHECK(recorder.find(1001)->state == OperationState::kRunning);
  CHECK(recorder.find(1000)->state == OperationState::kDone);
  CHECK(recorder.find(1001 - Recorder::kKept)->state == OperationState::kDone);
  CHECK_FALSE(recorder.find(1000 - Recorder::kKept));
  CHECK_FALSE(recorder.find(1002));
  CHECK(recorder.counters().kinds.at(OpKind::kAllReduce).latency.count() == 1000);
}

TEST_CASE("several run at a time and end in any order") {
  Recorder recorder(2);
  for (uint64_t seq = 1; seq <= 3; ++seq) recorder.begun(stampOf(seq), Clock::now());
  recorder.ended(2, "nccl", {}, nullptr);
  recorder.ended(7, "nccl", {}, nullptr);  // unknown: nothing happens
  CHECK(recorder.running() == 2);
  CHECK(recorder.find(1)->state == OperationState::kRunning);
  CHECK(recorder.find(2)->state == OperationState::kDone);
}

TEST_CASE("other threads read while operations come and go") {
  Recorder recorder(2);
  std::atomic<bool> over{false};
  std::vector<std::thread> readers;
  std::atomic<uint64_t> reads{0};
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      while (!over) {
        const auto records = recorder.operations();
        for (size_t at = 1; at < records.size(); ++at) {
          if (records[at].stamp.seq != records[at - 1].stamp.seq + 1) std::abort();
        }
        static_cast<void>(recorder.counters());
        ++reads;
      }
    });
  }
  uint64_t seq = 0;
  // For as long as the readers take to have read often, among others while the ring turns.
  while (seq < 20'000 || reads < 100) {
    recorder.begun(stampOf(++seq), Clock::now());
    recorder.ended(seq, "alone", {}, nullptr);
  }
  over = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(recorder.counters().kinds.at(OpKind::kAllReduce).latency.count() == seq);
}

TEST_CASE("histogram: a value read back is the same or at most 1/16 more") {
  uint64_t last = 0;
  for (size_t bucket = 0; bucket < Histogram::kBuckets; ++bucket) {
    const uint64_t top = Histogram::top(bucket);
    REQUIRE(Histogram::bucket(top) == bucket);
    if (bucket > 0) {
      REQUIRE(top > last);
      REQUIRE(Histogram::bucket(last + 1) == bucket);  // no gap between two buckets
      REQUIRE(static_cast<double>(top) <= static_cast<double>(last + 1) * (1 + 1.0 / 16));
    }
    last = top;
  }
  CHECK(last == Histogram::kMost);
  CHECK(Histogram::bucket(~uint64_t{0}) == Histogram::kBuckets - 1);
}

TEST_CASE("histogram: sum, count and largest are exact") {
  Histogram histogram;
  for (const uint64_t value : {uint64_t{5}, uint64_t{70'000}, uint64_t{123'456'789}}) histogram.add(value);
  CHECK(histogram.count() == 3);
  CHECK(histogram.sum() == 5 + 70'000 + 123'456'789);
  CHECK(histogram.max() == 123'456'789);
}

}  // namespace
}  // namespace nc::group
