// Messages between two devices: each of the two ranks tells the other what it has called, and nobody else.
#include <doctest/doctest.h>

#include <string>

#include "mesh_support.h"

using namespace nc;
using namespace nc::transport;
using namespace nc::transport::test;

namespace {

Stamp message(OpKind kind, int other, uint64_t number, uint64_t count = 4) {
  return {number, kind, DType::kInt32, ReduceOp::kNone, other, count, true};
}

FrameHeader told(const Stamp& stamp, uint64_t tag = 0) {
  FrameHeader header;
  header.kind = FrameKind::kCalled;
  header.generation = kGeneration;
  header.stamp = stamp;
  header.slot = tag;
  return header;
}

// Until the mesh has heard of it, or has failed.
void serveUntilMet(Mesh& mesh, const Stamp& stamp) {
  Wake wake;
  mesh.beside = [&] {
    if (mesh.met(stamp)) wake.raise();
    return Clock::now() + Millis{1};
  };
  mesh.serve(wake.fd());
  mesh.beside = nullptr;
}

void serveOn(Mesh& mesh) {
  const Wake never;
  mesh.serve(never.fd());
}

}  // namespace

TEST_CASE("messages of two, in any order and number, leave the operations of all in step") {
  const Watchdog watchdog("of two");
  Ranks ranks(3);
  const auto errors = ranks.run([&](Mesh& mesh) {
    const int rank = mesh.rank();
    // 0 to 1, called ahead by one of them or the other; 2 takes no part.
    for (uint64_t i = 1; i <= 500; ++i) {
      if (rank == 0) mesh.announceMessage(message(OpKind::kSend, 1, i, i), i % 3);
      if (rank == 1) mesh.announceMessage(message(OpKind::kRecv, 0, i, i), i % 3);
      if (rank == 1) mesh.announceMessage(message(OpKind::kSend, 0, i, 2 * i), 0);
      if (rank == 0) mesh.announceMessage(message(OpKind::kRecv, 1, i, 2 * i), 0);
    }
    Stamp all = stampOf(1);
    all.device = true;
    mesh.announce(all);
    if (rank == 0) serveUntilMet(mesh, message(OpKind::kRecv, 1, 500));
    if (rank == 1) serveUntilMet(mesh, message(OpKind::kRecv, 0, 500));
    mesh.close(Deadline::in(Millis{5000}));
  });
  for (const auto& error : errors) CHECK_MESSAGE(!error, (error ? error->what() : ""));
}

TEST_CASE("what differs in type, length or tag fails by name, whoever calls first") {
  const Watchdog watchdog("differs");
  for (const bool theirsFirst : {true, false}) {
    for (const bool sends : {true, false}) {
      for (const int what : {0, 1, 2}) {
        Solo solo(3);
        const OpKind here = sends ? OpKind::kSend : OpKind::kRecv;
        Stamp theirs = message(sends ? OpKind::kRecv : OpKind::kSend, 0, 1);
        if (what == 0) theirs.dtype = DType::kFloat32;
        if (what == 1) theirs.count = 5;
        const uint64_t tag = what == 2 ? 7 : 0;
        const auto error = errorOf([&] {
          if (!theirsFirst) solo.mesh->announceMessage(message(here, 1, 1), 0);
          solo.raw[1].write(told(theirs, tag));
          if (theirsFirst) {
            serveUntilMet(*solo.mesh, message(here, 1, 1));
            solo.mesh->announceMessage(message(here, 1, 1), 0);
          }
          serveOn(*solo.mesh);
        });
        REQUIRE(error);
        CHECK(error->code == ErrorCode::kCollectiveMismatch);
        CHECK(error->facts.peer == 1);
        CHECK(error->facts.seq == 1);
        CHECK(std::string(error->what())
                  .find(sends ? "from rank 0 to rank 1 differs" : "from rank 1 to rank 0 differs") !=
              std::string::npos);
        for (const size_t other : {1u, 2u}) {
          const auto heard = solo.raw[other].failure();
          REQUIRE(heard);
          CHECK(heard->code == ErrorCode::kCollectiveMismatch);
        }
      }
    }
  }
}

TEST_CASE("a rank far ahead is compared as far as its calls are kept, and takes no memory beyond") {
  const Watchdog watchdog("far ahead");
  for (const bool differs : {false, true}) {
    Solo solo(2);
    {
      const NamedThread writer("writer", [&] {
        for (uint64_t i = 1; i <= 3000; ++i) {
          solo.raw[1].write(told(message(OpKind::kSend, 0, i, differs && i == 1000 ? 9 : 4)));
        }
      });
      serveUntilMet(*solo.mesh, message(OpKind::kRecv, 1, 3000));
    }
    uint64_t reached = 0;
    const auto error = errorOf([&] {
      for (uint64_t i = 1; i <= 3001; ++i) {
        reached = i;
        solo.mesh->announceMessage(message(OpKind::kRecv, 1, i), 0);
      }
    });
    CHECK(static_cast<bool>(error) == differs);
    CHECK(reached == (differs ? 1000 : 3001));
    CHECK(!(error && error->code != ErrorCode::kCollectiveMismatch));
    if (differs) continue;
    // The next pair is compared again.
    const auto last = errorOf([&] {
      solo.raw[1].write(told(message(OpKind::kSend, 0, 3001), 1));
      serveOn(*solo.mesh);
    });
    REQUIRE(last);
    CHECK(last->code == ErrorCode::kCollectiveMismatch);
    CHECK(last->facts.seq == 3001);
  }
}

TEST_CASE("news of messages out of number, of another rank's or of the CPU are refused") {
  const Watchdog watchdog("refused");
  for (const int what : {0, 1, 2, 3}) {
    Solo solo(3);
    Stamp stamp = message(OpKind::kSend, 0, 1);
    if (what == 0) stamp.seq = 2;
    if (what == 1) stamp.root = 2;
    if (what == 2) stamp.device = false;
    if (what == 3) stamp.root = -1;
    solo.raw[1].write(told(stamp));
    const auto error = errorOf([&] { serveOn(*solo.mesh); });
    REQUIRE(error);
    CHECK(error->code == ErrorCode::kProtocol);
    CHECK(error->facts.peer == 1);
  }
}

TEST_CASE("a rank that has left took part in what it had called, and in nothing more") {
  const Watchdog watchdog("left");
  Solo solo(2);
  solo.raw[1].write(told(message(OpKind::kSend, 0, 1)));
  solo.raw[1].write(controlHeader(FrameKind::kGoodbye, 0));
  serveUntilMet(*solo.mesh, message(OpKind::kRecv, 1, 1));
  solo.mesh->announceMessage(message(OpKind::kRecv, 1, 1), 0);
  solo.mesh->checkStaying(message(OpKind::kRecv, 1, 1));
  CHECK(solo.mesh->missing(message(OpKind::kRecv, 1, 1)).empty());
  CHECK(solo.mesh->missing(message(OpKind::kRecv, 1, 2)) == std::vector<int>{1});
  const auto error = errorOf([&] {
    // The goodbye may not have been read yet.
    solo.mesh->announceMessage(message(OpKind::kRecv, 1, 2), 0);
    solo.mesh->beside = [&] {
      solo.mesh->checkStaying(message(OpKind::kRecv, 1, 2));
      return Clock::now() + Millis{1};
    };
    serveOn(*solo.mesh);
  });
  REQUIRE(error);
  CHECK(error->code == ErrorCode::kRankLost);
  CHECK(error->facts.peer == 1);
  CHECK(error->facts.seq == 2);
}

TEST_CASE("a deadline says whether the other one has called") {
  const Watchdog watchdog("deadline");
  for (const bool called : {true, false}) {
    Solo solo(2);
    const Stamp stamp = message(OpKind::kSend, 1, 1);
    solo.mesh->announceMessage(stamp, 0);
    if (called) {
      solo.raw[1].write(told(message(OpKind::kRecv, 0, 1)));
      serveUntilMet(*solo.mesh, stamp);
    }
    const auto error = errorOf([&] { solo.mesh->failLate(stamp, Deadline::in(Millis{10})); });
    REQUIRE(error);
    CHECK(error->code == ErrorCode::kTimeout);
    CHECK(error->facts.peer == 1);
    CHECK(error->facts.missing == (called ? std::vector<int>{} : std::vector<int>{1}));
    CHECK(std::string(error->what()).find(called ? "has called its part" : "has not called its recv") !=
          std::string::npos);
  }
}
