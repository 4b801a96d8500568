// Early arrivals: bounded, held back when the bound is reached, and never a reason to spin.
#include <doctest/doctest.h>

#include <array>

#include "mesh_support.h"

using namespace nc;
using namespace nc::transport;
using namespace nc::transport::test;

namespace {

// Serves on this thread until `count` frames lie aside.
void serveUntilEarly(Solo& solo, size_t count) {
  Wake wake;
  NamedThread watch("watch", [&] {
    while (solo.mesh->earlyFrames() < count) std::this_thread::yield();
    wake.raise();
  });
  solo.mesh->serve(wake.fd());
}

MeshLimits smallLimits() {
  MeshLimits limits;
  limits.earlyBytes = 1000;
  limits.earlyFrames = 8;
  return limits;
}

// An operation that waits in vain for rank 2 until its deadline must sleep meanwhile.
void checkSleeps(Solo& solo, uint64_t seq) {
  solo.begin(seq, Millis{300});
  BufferState state;
  solo.mesh->recv(state, std::array{2}, 1, nullptr, 0);
  const Millis before = cpuTime();
  const auto error = errorOf([&] { solo.mesh->waitRecv(state); });
  REQUIRE(error);
  CHECK(error->code == ErrorCode::kTimeout);
  CHECK((cpuTime() - before).count() < 100);
}

}  // namespace

TEST_CASE("frames of later operations are kept up to the limits, the rest waits in the link") {
  const Watchdog watchdog("kept up to the limits");
  for (const bool byCount : {true, false}) {
    const size_t bytes = byCount ? 4 : 300;
    const size_t kept = byCount ? 8 : 3;
    Solo solo(3, Wire::kUnix, smallLimits());
    for (uint64_t i = 0; i < 20; ++i) {
      solo.raw[1].write(dataHeader(1, i, bytes), pattern(bytes, static_cast<unsigned>(i)));
    }
    serveUntilEarly(solo, kept);
    // More rounds change nothing.
    solo.raw[2].write(dataHeader(1, 0, 0));
    serveUntilEarly(solo, kept + 1);
    CHECK(solo.mesh->earlyFrames() == kept + 1);

    // The operation begins: everything is let in, in any order of asking.
    solo.begin(1);
    for (uint64_t i = 20; i-- > 0;) {
      CHECK(solo.receive(1, i, bytes) == pattern(bytes, static_cast<unsigned>(i)));
    }
    solo.receive(2, 0, 0);
    CHECK(solo.mesh->earlyFrames() == 0);
    solo.mesh->end();
  }
}

TEST_CASE("a held back link is let in by the operation it waits for, one after the other") {
  const Watchdog watchdog("one after the other");
  // No other reason to wake up than the messages: a stall lasts until the deadline.
  MeshLimits limits = smallLimits();
  limits.calledAfter = Millis{3'600'000};
  limits.noticeAfter = {Millis{3'600'000}, Millis{7'200'000}};
  Solo solo(3, Wire::kUnix, limits);
  constexpr uint64_t kOperations = 60;
  for (uint64_t seq = 1; seq <= kOperations; ++seq) {
    for (uint64_t slot = 0; slot < 3; ++slot) {
      solo.raw[1].write(dataHeader(seq, slot, 90), pattern(90, static_cast<unsigned>(seq * 3 + slot)));
    }
  }
  serveUntilEarly(solo, 8);
  for (uint64_t seq = 1; seq <= kOperations; ++seq) {
    const auto start = Clock::now();
    solo.begin(seq, Millis{10'000});
    for (uint64_t slot = 3; slot-- > 0;) {
      REQUIRE(solo.receive(1, slot, 90) == pattern(90, static_cast<unsigned>(seq * 3 + slot)));
      REQUIRE(solo.mesh->earlyFrames() <= 8 + 2);
    }
    REQUIRE(Clock::now() - start < Millis{5000});
    solo.mesh->end();
  }
  CHECK(solo.mesh->earlyFrames() == 0);
}

TEST_CASE("a frame beyond every limit is taken when its operation begins") {
  const Watchdog watchdog("beyond every limit");
  Solo solo(3, Wire::kUnix, smallLimits());
  const Bytes large = pattern(60'000, 1);
  solo.raw[1].write(dataHeader(1, 0, 4), pattern(4, 1));
  solo.raw[1].write(dataHeader(2, 1, large.size()), large);
  solo.begin(1);
  CHECK(solo.receive(1, 0, 4) == pattern(4, 1));
  solo.settle();
  CHECK(solo.mesh->earlyFrames() == 0);
  solo.mesh->end();
  solo.begin(2);
  CHECK(solo.receive(1, 1, large.size()) == large);
  solo.mesh->end();
}

TEST_CASE("frames of the current operation are kept whatever the limits") {
  const Watchdog watchdog("current operation");
  Solo solo(3, Wire::kUnix, smallLimits());
  solo.begin(1);
  for (uint64_t i = 0; i < 20; ++i) solo.raw[1].write(dataHeader(1, i, 300), pattern(300, 1));
  solo.settle();
  CHECK(solo.mesh->earlyFrames() == 20);
  for (uint64_t i = 20; i-- > 0;) CHECK(solo.receive(1, i, 300) == pattern(300, 1));
  solo.mesh->end();
}

TEST_CASE("what nobody asked for is forgotten with its operation, also when half read") {
  const Watchdog watchdog("forgotten with its operation");
  Solo solo(3, Wire::kUnix, smallLimits());
  for (uint64_t seq = 1; seq <= 100; ++seq) {
    solo.begin(seq);
    solo.raw[1].write(dataHeader(seq, 6, 200), pattern(200, 1));
    const Bytes frame = solo.raw[1].next(dataHeader(seq, 7, 200), pattern(200, 1));
    solo.raw[1].write(std::span(frame).first(100));
    solo.settle();
    CHECK(solo.mesh->earlyFrames() == 2);
    solo.mesh->end();
    CHECK(solo.mesh->earlyFrames() == 0);
    solo.raw[1].write(std::span(frame).subspan(100));
    solo.raw[1].write(dataHeader(seq + 1, 8, 3), pattern(3, 2));
    solo.begin(seq + 1);
    CHECK(solo.receive(1, 8, 3) == pattern(3, 2));
    solo.mesh->end();
    ++seq;
  }
}

TEST_CASE("waiting sleeps") {
  const Watchdog watchdog("waiting sleeps");
  for (const Wire wire : kWires) {
    const auto fill = [](Solo& solo) {
      for (uint64_t i = 0; i < 12; ++i) solo.raw[1].write(dataHeader(5, i, 4), pattern(4, 1));
      serveUntilEarly(solo, 8);
    };
    {  // with a link held back
      Solo solo(3, wire, smallLimits());
      fill(solo);
      checkSleeps(solo, 1);
    }
    {  // with a rank that said goodbye and closed
      Solo solo(3, wire);
      solo.raw[1].write(controlHeader(FrameKind::kGoodbye, 9));
      solo.raw[1].fd.reset();
      checkSleeps(solo, 1);
    }
    {  // with a rank that does not read
      Solo solo(3, wire);
      const Bytes large = pattern(20'000'000, 1);
      BufferState state;
      solo.begin(1);
      solo.mesh->send(state, 1, 1, large.data(), large.size());
      solo.mesh->end();
      // Its bytes are the second operation's business as well: they are written while that one waits.
      solo.begin(2, Millis{300});
      const Millis before = cpuTime();
      const auto error = errorOf([&] { solo.mesh->waitSend(state); });
      REQUIRE(error);
      CHECK(error->code == ErrorCode::kTimeout);
      CHECK((cpuTime() - before).count() < 150);
      solo.mesh->release(state);
    }
  }
}

TEST_CASE("a waiting rank says so, once to each, and again to the user") {
  const Watchdog watchdog("a waiting rank says so");
  MeshLimits limits;
  limits.calledAfter = Millis{5};
  limits.noticeAfter = {Millis{10}, Millis{20}};
  Solo solo(4, Wire::kUnix, limits);
  std::vector<std::vector<int>> notices;
  std::vector<Millis> waits;
  solo.mesh->onWaiting = [&](const Stamp& stamp, Millis waited, const std::vector<int>& missing) {
    CHECK(stamp == stampOf(1));
    notices.push_back(missing);
    waits.push_back(waited);
    // The event that lets the test go on: rank 1 answers the first notice, rank 2 the second.
    if (notices.size() == 1) solo.raw[1].write(controlHeader(FrameKind::kCalled, 0));
    if (notices.size() == 2) solo.raw[2].write(dataHeader(1, 1, 0));
  };
  solo.begin(1);
  BufferState state;
  solo.mesh->send(state, 3, 1, nullptr, 0);
  FrameHeader called = controlHeader(FrameKind::kCalled, 1);
  called.stamp = stampOf(1);
  solo.raw[1].write(called);
  CHECK((solo.receive(2, 1, 0).empty()));
  solo.mesh->end();
  REQUIRE(notices.size() == 2);
  CHECK(notices[0] == std::vector{2, 3});
  CHECK(notices[1] == std::vector{2, 3});
  CHECK(waits[0] >= Millis{10});
  CHECK(waits[1] >= Millis{20});
  solo.mesh->close(Deadline::in(Millis{1000}));
  // Rank 2 hears it in a frame of its own, rank 3 from the message.
  CHECK(solo.raw[2].frame()->first.kind == FrameKind::kCalled);
  CHECK(solo.raw[2].frame()->first.kind == FrameKind::kGoodbye);
  CHECK(solo.raw[3].frame()->first.kind == FrameKind::kData);
  CHECK(solo.raw[3].frame()->first.kind == FrameKind::kGoodbye);
}

TEST_CASE("the end of a rank whose link is held back is seen") {
  const Watchdog watchdog("held back and ended");
  for (const Wire wire : kWires) {
    for (const bool reset : {false, true}) {
      for (const bool writes : {false, true}) {
        Solo solo(3, wire, smallLimits());
        for (uint64_t i = 0; i < 20; ++i) solo.raw[1].write(dataHeader(5, i, 4), pattern(4, 1));
        serveUntilEarly(solo, 8);
        const Bytes large = pattern(20'000'000, 1);
        BufferState state;
        solo.begin(1);
        if (writes) solo.mesh->send(state, 1, 1, large.data(), large.size());
        if (reset) {
          solo.raw[1].reset();
        } else {
          solo.raw[1].fd.reset();
        }
        BufferState waiting;
        solo.mesh->recv(waiting, std::array{2}, 1, nullptr, 0);
        const auto error = errorOf([&] { solo.mesh->waitRecv(waiting); });
        REQUIRE(error);
        CHECK(error->code == ErrorCode::kRankLost);
        CHECK(error->facts.peer == 1);
        solo.mesh->release(state);
        solo.mesh->release(waiting);
      }
    }
  }
}
