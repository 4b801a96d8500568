// send() and recv() on the mesh: what is kept aside, what is held back, what must not come, and how it ends.
#include <doctest/doctest.h>

#include <array>

#include "mesh_support.h"

using namespace nc;
using namespace nc::transport;
using namespace nc::transport::test;

namespace {

Stamp message(OpKind kind, int other, uint64_t number, size_t count) {
  return {number, kind, DType::kUint8, ReduceOp::kNone, other, count};
}

// Message `number` as rank 1 or another sends it to rank 0.
FrameHeader incoming(uint64_t number, size_t bytes, uint64_t tag = 0) {
  FrameHeader header;
  header.kind = FrameKind::kMessage;
  header.generation = kGeneration;
  header.stamp = message(OpKind::kSend, 0, number, bytes);
  header.slot = tag;
  header.length = bytes;
  return header;
}

MeshLimits smallLimits() {
  MeshLimits limits;
  limits.earlyBytes = 1000;
  limits.earlyFrames = 8;
  return limits;
}

void waitUntil(Mesh& mesh, const Stamp& stamp, const std::vector<int>& completions) {
  while (completions.empty()) mesh.serveMessages(stamp, Clock::now() + Millis{20'000}, -1);
}

Bytes receive(Mesh& mesh, int from, uint64_t number, size_t bytes, uint64_t tag = 0) {
  Bytes into(bytes);
  BufferState state;
  const Stamp stamp = message(OpKind::kRecv, from, number, bytes);
  mesh.recvMessage(state, stamp, tag, into.data(), bytes);
  waitUntil(mesh, stamp, state.received);
  mesh.release(state);
  return into;
}

void serveUntilEarly(Mesh& mesh, size_t count) {
  Wake wake;
  NamedThread watch("watch", [&] {
    while (mesh.earlyFrames() < count) std::this_thread::yield();
    wake.raise();
  });
  mesh.serve(wake.fd());
}

}  // namespace

TEST_CASE("messages are kept up to the limits, and the rest of the link waits behind them") {
  const Watchdog watchdog("kept up to the limits");
  for (const Wire wire : kWires) {
    for (const bool byCount : {true, false}) {
      const size_t bytes = byCount ? 4 : 300;
      const size_t kept = byCount ? 8 : 3;
      Solo solo(3, wire, smallLimits());
      for (uint64_t i = 1; i <= 20; ++i)
        solo.raw[1].write(incoming(i, bytes), pattern(bytes, static_cast<unsigned>(i)));
      solo.raw[2].write(incoming(1, 5), pattern(5, 99));
      serveUntilEarly(*solo.mesh, kept + 1);
      CHECK(receive(*solo.mesh, 2, 1, 5) == pattern(5, 99));
      for (uint64_t i = 1; i <= 20; ++i) {
        CHECK(receive(*solo.mesh, 1, i, bytes) == pattern(bytes, static_cast<unsigned>(i)));
        CHECK(solo.mesh->earlyFrames() <= kept);
      }
      CHECK(solo.mesh->earlyFrames() == 0);
    }
  }
}

TEST_CASE("operations begin and end without touching messages of their number") {
  const Watchdog watchdog("without touching messages");
  Solo solo(2);
  for (uint64_t i = 1; i <= 3; ++i) solo.raw[1].write(incoming(i, 10), pattern(10, static_cast<unsigned>(i)));
  for (uint64_t seq = 1; seq <= 3; ++seq) {
    solo.raw[1].write(dataHeader(seq, 0, 4), pattern(4, 7));
    solo.begin(seq);
    CHECK(solo.receive(1, 0, 4) == pattern(4, 7));
    solo.mesh->end();
  }
  CHECK(solo.mesh->earlyFrames() == 3);
  for (uint64_t i = 1; i <= 3; ++i)
    CHECK(receive(*solo.mesh, 1, i, 10) == pattern(10, static_cast<unsigned>(i)));
}

TEST_CASE("a message is asked for while it is half read") {
  const Watchdog watchdog("half read");
  for (const size_t bytes : {size_t{100}, size_t{100'000}}) {
    for (const bool aside : {true, false}) {
      Solo solo(3);
      const Bytes body = pattern(bytes, 1);
      const Bytes frame = solo.raw[1].next(incoming(1, bytes), body);
      const std::span<const std::byte> all(frame);
      Bytes into(bytes);
      BufferState state;
      const Stamp stamp = message(OpKind::kRecv, 1, 1, bytes);
      if (!aside) solo.mesh->recvMessage(state, stamp, 0, into.data(), bytes);
      solo.raw[1].write(all.first(bytes / 2));
      solo.raw[2].write(incoming(1, 0));
      receive(*solo.mesh, 2, 1, 0);
      if (aside) solo.mesh->recvMessage(state, stamp, 0, into.data(), bytes);
      solo.raw[1].write(all.subspan(bytes / 2));
      waitUntil(*solo.mesh, stamp, state.received);
      CHECK(into == body);
      CHECK(solo.mesh->earlyFrames() == 0);
      solo.mesh->release(state);
    }
  }
}

TEST_CASE("memory that is taken back in the middle leaves the link in step") {
  const Watchdog watchdog("taken back");
  Solo solo(3);
  const Bytes body = pattern(50'000, 1);
  const Bytes frame = solo.raw[1].next(incoming(1, body.size()), body);
  {
    Bytes into(body.size());
    BufferState state;
    solo.mesh->recvMessage(state, message(OpKind::kRecv, 1, 1, body.size()), 0, into.data(), into.size());
    solo.raw[1].write(std::span(frame).first(30'000));
    solo.raw[2].write(incoming(1, 0));
    receive(*solo.mesh, 2, 1, 0);
    solo.mesh->release(state);
  }
  solo.raw[1].write(std::span(frame).subspan(30'000));
  solo.raw[1].write(incoming(2, 3), pattern(3, 2));
  CHECK(receive(*solo.mesh, 1, 2, 3) == pattern(3, 2));
}

TEST_CASE("a message that differs fails the group, early or awaited, and the sender is told") {
  const Watchdog watchdog("differs");
  for (const bool early : {true, false}) {
    for (const int what : {0, 1, 2}) {
      Solo solo(2);
      FrameHeader header = incoming(1, 4, what == 0 ? 5 : 0);
      if (what == 1) header.stamp.dtype = DType::kInt8;
      if (what == 2) header.stamp.count = header.length = 3;
      solo.raw[1].write(header, pattern(header.length, 1));
      if (early) serveUntilEarly(*solo.mesh, 1);
      const auto error = errorOf([&] { receive(*solo.mesh, 1, 1, 4); });
      REQUIRE(error);
      CHECK(error->code == ErrorCode::kCollectiveMismatch);
      CHECK(error->facts.peer == 1);
      CHECK(error->facts.op == "recv");
      const auto told = solo.raw[1].failure();
      REQUIRE(told);
      CHECK(told->code == ErrorCode::kCollectiveMismatch);
    }
  }
}

TEST_CASE("messages out of number, for another rank or of no kind are refused") {
  const Watchdog watchdog("refused");
  for (const int what : {0, 1, 2, 3}) {
    Solo solo(2);
    FrameHeader header = incoming(what == 0 ? 2 : 1, 0);
    if (what == 1) header.stamp.root = 1;
    if (what == 2) header.stamp.kind = OpKind::kRecv;
    if (what == 3) {  // the length does not fit what it says of itself
      header.stamp.count = 4;
      header.length = 2;
    }
    solo.raw[1].write(header, pattern(header.length, 1));
    const auto error = errorOf([&] { receive(*solo.mesh, 1, 1, 4); });
    REQUIRE(error);
    CHECK(error->code == ErrorCode::kProtocol);
  }
}

TEST_CASE("a goodbye ends what is awaited, not what came before it") {
  const Watchdog watchdog("goodbye");
  Solo solo(2);
  solo.raw[1].write(incoming(1, 4), pattern(4, 1));
  solo.raw[1].write(controlHeader(FrameKind::kGoodbye, 0));
  solo.raw[1].fd.reset();
  CHECK(receive(*solo.mesh, 1, 1, 4) == pattern(4, 1));
  const auto error = errorOf([&] { receive(*solo.mesh, 1, 2, 4); });
  REQUIRE(error);
  CHECK(error->code == ErrorCode::kRankLost);
  CHECK(error->facts.peer == 1);
  CHECK(error->facts.seq == 2);
}

TEST_CASE("what a rank that has left did not take does not count as read") {
  const Watchdog watchdog("not as read");
  Solo solo(2);
  const Bytes large = pattern(20'000'000, 1);
  BufferState state;
  const Stamp stamp = message(OpKind::kSend, 1, 1, large.size());
  solo.mesh->sendMessage(state, stamp, 0, large.data(), large.size());
  CHECK(state.sent.empty());
  solo.raw[1].write(controlHeader(FrameKind::kGoodbye, 0));
  solo.raw[1].fd.reset();
  const auto error = errorOf([&] {
    waitUntil(*solo.mesh, stamp, state.sent);
    solo.mesh->checkReachable(stamp);
  });
  REQUIRE(error);
  CHECK(error->code == ErrorCode::kRankLost);
  CHECK(state.unread);
  solo.mesh->release(state);
}

TEST_CASE("a send goes out as a message, from another thread too") {
  const Watchdog watchdog("from another thread");
  Solo solo(2);
  const Bytes body = pattern(40, 3);
  CHECK(solo.mesh->trySendMessage(message(OpKind::kSend, 1, 1, 40), 77, body.data(), 40));
  const auto got = solo.raw[1].frame();
  REQUIRE(got);
  CHECK(got->first.kind == FrameKind::kMessage);
  CHECK(got->first.slot == 77);
  CHECK(got->first.stamp == message(OpKind::kSend, 1, 1, 40));
  CHECK(got->second == body);
}

TEST_CASE("waiting for a message sleeps") {
  const Watchdog watchdog("sleeps");
  Solo solo(3, Wire::kUnix, smallLimits());
  for (uint64_t i = 1; i <= 20; ++i) solo.raw[1].write(incoming(i, 300), pattern(300, 1));
  serveUntilEarly(*solo.mesh, 3);
  BufferState state;
  const Stamp stamp = message(OpKind::kRecv, 2, 1, 1);
  std::byte into{};
  solo.mesh->recvMessage(state, stamp, 0, &into, 1);
  const Millis before = cpuTime();
  const Deadline limit = Deadline::in(Millis{300});
  const auto error = errorOf([&] {
    while (!limit.passed()) solo.mesh->serveMessages(stamp, limit.at(), -1);
    solo.mesh->failLateMessage(stamp, limit);
  });
  CHECK((cpuTime() - before).count() < 100);
  REQUIRE(error);
  CHECK(error->code == ErrorCode::kTimeout);
  CHECK(error->facts.missing == std::vector{2});
  solo.mesh->release(state);
}

TEST_CASE("a rank that ends while its messages are held back is lost, or has left them all") {
  const Watchdog watchdog("held back and ended");
  for (const bool goodbye : {true, false}) {
    Solo solo(3, Wire::kUnix, smallLimits());
    for (uint64_t i = 1; i <= 20; ++i)
      solo.raw[1].write(incoming(i, 300), pattern(300, static_cast<unsigned>(i)));
    serveUntilEarly(*solo.mesh, 3);
    if (goodbye) solo.raw[1].write(controlHeader(FrameKind::kGoodbye, 0));
    solo.raw[1].fd.reset();
    if (goodbye) {
      serveUntilEarly(*solo.mesh, 20);
      for (uint64_t i = 1; i <= 20; ++i)
        CHECK(receive(*solo.mesh, 1, i, 300) == pattern(300, static_cast<unsigned>(i)));
      continue;
    }
    const auto error = errorOf([&] { receive(*solo.mesh, 2, 1, 4); });
    REQUIRE(error);
    CHECK(error->code == ErrorCode::kRankLost);
    CHECK(error->facts.peer == 1);
  }
}
