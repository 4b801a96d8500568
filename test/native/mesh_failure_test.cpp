// How a mesh ends, and what each rank is told: lost ranks, garbage, calls that differ, deadlines, aborts.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>

#include "mesh_support.h"

using namespace nc;
using namespace nc::transport;
using namespace nc::transport::test;

namespace {

// Waits for a message of `from` in operation 1 and returns what that throws.
std::optional<Error> waitingFails(Solo& solo, int from, uint64_t slot = 1, size_t bytes = 10) {
  Bytes into(bytes);
  BufferState state;
  const auto error = errorOf([&] {
    solo.mesh->recv(state, std::array{from}, slot, into.data(), into.size());
    solo.mesh->waitRecv(state);
  });
  solo.mesh->release(state);
  return error;
}

void checkLost(const std::optional<Error>& error, int rank) {
  REQUIRE(error);
  CHECK(error->code == ErrorCode::kRankLost);
  CHECK(error->facts.rank == 0);
  CHECK(error->facts.peer == rank);
  CHECK(error->facts.peerHost == "host" + std::to_string(rank));
  CHECK(error->facts.peerPid == 1000 + rank);
  CHECK(error->facts.op == "allReduce");
  CHECK(error->facts.seq == 1);
  CHECK(error->facts.detectedBy == 0);
  CHECK_FALSE(error->facts.consequence);
  CHECK(std::string(error->what()).find("rank " + std::to_string(rank)) != std::string::npos);
}

// One exchange with each neighbour; any mismatch shows in it.
void exchange(Mesh& mesh, const Stamp& stamp, Millis limit = Millis{20'000}) {
  BufferState state;
  std::vector<int32_t> in(static_cast<size_t>(mesh.size()));
  const int32_t out = mesh.rank();
  mesh.begin(stamp, Deadline::in(limit));
  try {
    for (int peer = 0; peer < mesh.size(); ++peer) {
      if (peer == mesh.rank()) continue;
      mesh.send(state, peer, 1, &out, sizeof(out));
      mesh.recv(state, std::array{peer}, 1, &in[static_cast<size_t>(peer)], sizeof(out));
    }
    for (int peer = 1; peer < mesh.size(); ++peer) mesh.waitRecv(state);
    for (int peer = 1; peer < mesh.size(); ++peer) mesh.waitSend(state);
  } catch (const Error&) {
    mesh.release(state);
    throw;
  }
  mesh.end();
}

}  // namespace

TEST_CASE("a rank that ends at any byte of its message is lost by name") {
  const Watchdog watchdog("ends at any byte");
  const Bytes frame = frameBytes(dataHeader(1, 1, 10), pattern(10, 1));
  for (const Wire wire : kWires) {
    for (size_t cut = 0; cut < frame.size(); ++cut) {
      for (const bool posted : {true, false}) {  // else the body is being kept aside
        Solo solo(3, wire);
        solo.begin(1);
        solo.raw[1].write(std::span(frame).first(cut));
        solo.raw[1].fd.reset();
        const auto error = waitingFails(solo, 1, posted ? 1 : 2);
        checkLost(error, 1);
        CHECK(error->facts.errnum == 0);
        const auto told = solo.raw[2].failure();
        REQUIRE(told);
        CHECK(told->code == ErrorCode::kRankLost);
        CHECK(told->facts.peer == 1);
        CHECK(told->facts.detectedBy == 0);
        CHECK(told->facts.consequence);
        // It stays so.
        CHECK(errorOf([&] { solo.begin(2); })->code == ErrorCode::kRankLost);
        CHECK(errorOf([&] { solo.mesh->serve(solo.cancel.fd()); })->code == ErrorCode::kRankLost);
      }
    }
    // A whole message counts, although its sender has gone.
    Solo solo(2, wire);
    solo.begin(1);
    solo.raw[1].write(frame);
    solo.raw[1].fd.reset();
    CHECK(solo.receive(1, 1, 10) == pattern(10, 1));
    checkLost(waitingFails(solo, 1, 2), 1);
  }
}

TEST_CASE("a reset is a lost rank with its errno") {
  const Watchdog watchdog("reset");
  Solo solo(2, Wire::kTcp);
  solo.begin(1);
  const Bytes frame = frameBytes(dataHeader(1, 1, 10));
  solo.raw[1].write(std::span(frame).first(20));
  solo.raw[1].reset();
  const auto error = waitingFails(solo, 1);
  checkLost(error, 1);
  CHECK(error->facts.errnum == ECONNRESET);
}

TEST_CASE("a rank that is killed while it is sent to, or while it sends, is lost by name") {
  const Watchdog watchdog("killed");
  const Bytes large = pattern(30'000'000, 1);
  for (const Wire wire : kWires) {
    for (const bool sending : {false, true}) {
      auto [near, far] = wirePair(wire);
      const int farFd = far.get();
      const int nearFd = near.get();
      const pid_t child = ::fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        ::close(nearFd);
        const FrameHeader header = dataHeader(1, 1, sending ? large.size() : 0);
        Bytes bytes = frameBytes(header);
        if (sending) bytes.resize(3'000'000);
        for (size_t done = 0; done < bytes.size();) {
          const ssize_t n = ::write(farFd, bytes.data() + done, bytes.size() - done);
          if (n <= 0) ::_exit(1);
          done += static_cast<size_t>(n);
        }
        if (sending) ::raise(SIGKILL);
        for (;;) ::pause();
      }
      far.reset();
      Cancel cancel;
      std::vector<LinkEnd> ends;
      ends.push_back(linkEnd(1, std::move(near)));
      Mesh mesh(0, 2, kGeneration, std::move(ends), cancel);
      mesh.begin(stampOf(1), Deadline::in(Millis{20'000}));
      BufferState state;
      Bytes into(large.size());
      std::optional<Error> error;
      if (sending) {
        mesh.recv(state, std::array{1}, 1, into.data(), into.size());
        error = errorOf([&] { mesh.waitRecv(state); });
      } else {
        mesh.send(state, 1, 1, large.data(), large.size());
        mesh.recv(state, std::array{1}, 1, nullptr, 0);
        mesh.waitRecv(state);
        ::kill(child, SIGKILL);
        error = errorOf([&] { mesh.waitSend(state); });
      }
      checkLost(error, 1);
      mesh.release(state);
      ::waitpid(child, nullptr, 0);
    }
  }
}

TEST_CASE("garbage, strangers' generations, wrong lengths and late messages end the group") {
  const Watchdog watchdog("garbage");
  const auto check = [](const Bytes& bytes, ErrorCode code, bool early) {
    Solo solo(3);
    solo.begin(1);
    solo.mesh->end();
    solo.begin(2);
    solo.raw[1].write(bytes);
    std::optional<Error> error;
    if (early) error = errorOf([&] { solo.settle(); });
    if (!error) error = waitingFails(solo, 1);
    REQUIRE(error);
    CHECK(error->code == code);
    CHECK(error->facts.peer == 1);
    CHECK_FALSE(error->facts.consequence);
    for (const size_t peer : {1, 2}) {
      const auto told = solo.raw[peer].failure();
      REQUIRE(told);
      CHECK(told->code == code);
      CHECK(told->facts.rank == 0);
      CHECK(told->facts.peer == 1);
      CHECK(told->facts.consequence);
    }
  };
  FrameHeader foreign = dataHeader(2, 1, 0);
  foreign.generation += 1;
  FrameHeader tooLong = dataHeader(2, 1, 10);
  tooLong.length = kMaxDataBytes + 1;
  for (const bool early : {false, true}) {
    for (unsigned seed = 0; seed < 20; ++seed)
      check(pattern(kFrameHeaderBytes + seed, seed), ErrorCode::kProtocol, early);
    check(frameBytes(foreign), ErrorCode::kProtocol, early);
    check(frameBytes(tooLong), ErrorCode::kProtocol, early);
    check(frameBytes(dataHeader(2, 1, 11), pattern(11, 1)), ErrorCode::kProtocol, early);
    check(frameBytes(dataHeader(2, 1, 9), pattern(9, 1)), ErrorCode::kProtocol, early);
    check(frameBytes(dataHeader(2, 1, 0)), ErrorCode::kProtocol, early);
    check(frameBytes(dataHeader(1, 1, 10), pattern(10, 1)), ErrorCode::kCollectiveMismatch, early);
  }
}

TEST_CASE("a frame that is repeated, left out or moved ends the group") {
  const Watchdog watchdog("repeated");
  enum class How { kRepeated, kLeftOut, kMoved };
  for (const Wire wire : kWires) {
    for (const How how : {How::kRepeated, How::kLeftOut, How::kMoved}) {
      Solo solo(3, wire);
      solo.begin(1);
      std::array<Bytes, 3> frames;
      for (size_t i = 0; i < frames.size(); ++i)
        frames[i] = solo.raw[1].next(dataHeader(1, i, 4), pattern(4, 1));
      solo.raw[1].write(frames[0]);
      CHECK(solo.receive(1, 0, 4) == pattern(4, 1));
      if (how == How::kRepeated) solo.raw[1].write(frames[0]);
      if (how != How::kRepeated) solo.raw[1].write(frames[2]);
      if (how == How::kMoved) solo.raw[1].write(frames[1]);
      const auto error = errorOf([&] { solo.receive(1, 1, 4); });
      REQUIRE(error);
      CHECK(error->code == ErrorCode::kProtocol);
      CHECK(error->facts.peer == 1);
      const auto told = solo.raw[2].failure();
      REQUIRE(told);
      CHECK(told->code == ErrorCode::kProtocol);
      CHECK(told->facts.peer == 1);
    }
  }
}

TEST_CASE("calls that differ are found on both sides, and the third rank hears of it") {
  const Watchdog watchdog("calls that differ");
  for (const Wire wire : kWires) {
    for (const int differs : {0, 1, 2}) {
      Ranks ranks(3, wire);
      const auto errors = ranks.run([&](Mesh& mesh) {
        exchange(mesh, stampOf(1));
        exchange(mesh, stampOf(2, mesh.rank() == differs ? 5 : 4));
      });
      int seen = 0;
      for (int rank = 0; rank < 3; ++rank) {
        const auto& error = errors[static_cast<size_t>(rank)];
        REQUIRE(error);
        CHECK(error->code == ErrorCode::kCollectiveMismatch);
        CHECK(error->facts.seq == 2);
        // The pair that differs is named, whoever found it.
        CHECK((error->facts.rank == differs) != (error->facts.peer == differs));
        CHECK(std::string(error->what()).find("x 5") != std::string::npos);
        CHECK(std::string(error->what()).find("x 4") != std::string::npos);
        if (!error->facts.consequence) {
          ++seen;
          CHECK(error->facts.rank == rank);
        }
      }
      CHECK(seen >= 1);
    }
  }
}

TEST_CASE("a rank that only hears of a mismatch is told as much") {
  const Watchdog watchdog("only hears");
  // Rank 2 waits for rank 1 alone, which found that rank 0 called something else.
  Ranks ranks(3);
  const auto errors = ranks.run([&](Mesh& mesh) {
    BufferState state;
    int32_t value = 0;
    mesh.begin(stampOf(1, mesh.rank() == 0 ? 9 : 4), Deadline::in(Millis{20'000}));
    if (mesh.rank() == 0) mesh.send(state, 1, 1, &value, 4);
    mesh.recv(state, std::array{mesh.rank() == 1 ? 0 : 1}, 1, &value, 4);
    try {
      mesh.waitRecv(state);
    } catch (const Error&) {
      mesh.release(state);
      throw;
    }
  });
  for (const auto& error : errors) {
    REQUIRE(error);
    CHECK(error->code == ErrorCode::kCollectiveMismatch);
  }
  CHECK_FALSE(errors[1]->facts.consequence);
  CHECK(errors[0]->facts.consequence);
  CHECK(errors[2]->facts.consequence);
  CHECK(errors[2]->facts.rank == 1);
  CHECK(errors[2]->facts.peer == 0);
}

TEST_CASE("a mismatch with what came early ends the group when the operation begins") {
  const Watchdog watchdog("mismatch with early");
  Solo solo(3);
  FrameHeader other = dataHeader(2, 1, 0);
  other.stamp.reduceOp = ReduceOp::kMin;
  solo.begin(1);
  solo.raw[1].write(other);
  solo.settle();
  solo.mesh->end();
  const auto error = errorOf([&] { solo.begin(2); });
  REQUIRE(error);
  CHECK(error->code == ErrorCode::kCollectiveMismatch);
  CHECK(error->facts.peer == 1);
  CHECK(solo.raw[2].failure()->code == ErrorCode::kCollectiveMismatch);
}

TEST_CASE("a deadline names exactly the ranks that have not called") {
  const Watchdog watchdog("deadline");
  for (const Wire wire : kWires) {
    Ranks ranks(4, wire);
    Wake over;
    const auto errors = ranks.run([&](Mesh& mesh) {
      if (mesh.rank() == 3) return mesh.serve(over.fd());  // never calls; only hears
      if (mesh.rank() == 0) {
        // A broadcast's source, so to speak: it sends and is done, and must not be taken for missing.
        BufferState state;
        const int32_t value = 0;
        mesh.begin(stampOf(1), Deadline::in(Millis{20'000}));
        mesh.send(state, 1, 1, &value, 4);
        mesh.waitSend(state);
        mesh.end();
        return mesh.serve(over.fd());
      }
      BufferState state;
      int32_t value = 0;
      mesh.begin(stampOf(1), Deadline::in(Millis{300}));
      mesh.recv(state, std::array{3}, 1, &value, 4);
      try {
        mesh.waitRecv(state);
      } catch (const Error&) {
        mesh.release(state);
        throw;
      }
    });
    for (const auto& error : errors) {
      REQUIRE(error);
      CHECK(error->code == ErrorCode::kTimeout);
      CHECK(error->facts.missing == std::vector{3});
      CHECK(error->facts.peer == 3);
      CHECK(error->facts.seq == 1);
    }
    CHECK(errors[0]->facts.consequence);
    CHECK(errors[3]->facts.consequence);
  }
}

TEST_CASE("what is there when the deadline has passed still counts") {
  const Watchdog watchdog("there when passed");
  Solo solo(2);
  solo.mesh->begin(stampOf(1), Deadline::in(Millis{0}));
  solo.raw[1].write(dataHeader(1, 1, 4), pattern(4, 1));
  CHECK(solo.receive(1, 1, 4) == pattern(4, 1));
  const auto error = waitingFails(solo, 1, 2);
  CHECK(error->code == ErrorCode::kTimeout);
  CHECK(error->facts.missing.empty());  // it has called, and owes a message
}

TEST_CASE("a cancel ends every wait at once, and the others hear it") {
  const Watchdog watchdog("cancel");
  using Us = std::chrono::microseconds;
  Us best = Us::max();
  for (int round = 0; round < 10; ++round) {
    for (const bool parked : {false, true}) {
      MeshLimits limits;
      limits.noticeAfter = {Millis{1}, Millis{2}};
      Ranks ranks(3, round % 2 == 0 ? Wire::kUnix : Wire::kTcp, limits);
      std::atomic<int> waiting{0};
      for (const auto& mesh : ranks.meshes) {
        // The second notice: from then on the rank sleeps in poll without a time-out of ours.
        mesh->onWaiting = [&](const Stamp&, Millis waited, const std::vector<int>&) {
          if (waited >= Millis{2} && waiting.fetch_add(1) + 1 == (parked ? 2 : 3)) waiting.notify_all();
        };
      }
      Wake never;
      Clock::time_point cancelled;
      Clock::time_point ended;
      const auto errors = ranks.run(
          [&](Mesh& mesh) {
            try {
              if (parked && mesh.rank() == 0) mesh.serve(never.fd());
              BufferState state;
              mesh.begin(stampOf(1), Deadline::in(Millis{20'000}));
              mesh.recv(state, std::array{(mesh.rank() + 1) % 3}, 1, nullptr, 0);
              mesh.waitRecv(state);
            } catch (const Error&) {
              if (mesh.rank() == 0) ended = Clock::now();
              throw;
            }
          },
          [&] {
            const int all = parked ? 2 : 3;
            for (int now = waiting.load(); now < all; now = waiting.load()) waiting.wait(now);
            cancelled = Clock::now();
            ranks.cancels[0]->cancel(Error(ErrorCode::kAborted, "aborted by the user"));
          });
      best = std::min(best, std::chrono::duration_cast<Us>(ended - cancelled));
      for (size_t rank = 0; rank < 3; ++rank) {
        REQUIRE(errors[rank]);
        CHECK(errors[rank]->code == ErrorCode::kAborted);
        CHECK(errors[rank]->facts.rank == 0);
        CHECK(errors[rank]->facts.consequence == (rank != 0));
        CHECK(std::string(errors[rank]->what()) == "aborted by the user");
      }
    }
  }
  MESSAGE("cancel to the end of the wait, best of 20: " << best.count() << " us");
  CHECK(best < Us{10'000});
}

TEST_CASE("a rank that reads is told the cause behind a message half sent") {
  const Watchdog watchdog("half sent");
  const Bytes large = pattern(24'000'000, 1);
  for (const Wire wire : kWires) {
    Solo solo(3, wire);
    solo.begin(1);
    BufferState state;
    solo.mesh->send(state, 1, 1, large.data(), large.size());
    Bytes seen;
    std::optional<Error> told;
    NamedThread far("far", [&] {
      seen = solo.raw[1].read(kFrameHeaderBytes + 1'000'000);
      solo.raw[2].write(pattern(kFrameHeaderBytes, 1));
      const Bytes rest = solo.raw[1].read(large.size() - 1'000'000);
      seen.insert(seen.end(), rest.begin(), rest.end());
      told = solo.raw[1].failure();
    });
    // It may have been written out before the garbage comes, so something else is waited for.
    const auto error = errorOf([&] { solo.receive(1, 2, 0); });
    REQUIRE(error);
    CHECK(error->code == ErrorCode::kProtocol);
    solo.mesh->release(state);
    solo.mesh->close(Deadline::in(Millis{5000}));
    far.join();
    CHECK((Bytes(seen.begin() + kFrameHeaderBytes, seen.end()) == large));
    REQUIRE(told);
    CHECK(told->code == ErrorCode::kProtocol);
  }
}

TEST_CASE("a cancel does not wait for a rank that has stopped reading") {
  const Watchdog watchdog("stopped reading");
  const Bytes large = pattern(24'000'000, 1);
  Solo solo(2, Wire::kTcp);
  solo.begin(1);
  BufferState state;
  solo.mesh->send(state, 1, 1, large.data(), large.size());
  solo.cancel.cancel(Error(ErrorCode::kAborted, "enough"));
  const auto start = Clock::now();
  CHECK(errorOf([&] { solo.mesh->waitSend(state); })->code == ErrorCode::kAborted);
  solo.mesh->release(state);
  solo.mesh->close(Deadline::in(Millis{5000}));
  CHECK(Clock::now() - start < Millis{2000});
}
