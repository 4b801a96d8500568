// Operations beside the mesh's own, which run on devices: what ranks call is compared, by name, and whoever
// waits is driven and told.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <string>

#include "mesh_support.h"

using namespace nc;
using namespace nc::transport;
using namespace nc::transport::test;

namespace {

Stamp deviceStamp(uint64_t seq, uint64_t count = 1) {
  Stamp stamp = stampOf(seq, count);
  stamp.device = true;
  return stamp;
}

// One exchange with each other rank, as an operation of the mesh's own.
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

// Serves until the group fails; the caller sees to that.
void serveOn(Mesh& mesh) {
  const Wake never;
  mesh.serve(never.fd());
}

void checkMismatch(const std::vector<std::optional<Error>>& errors, uint64_t seq) {
  for (const auto& error : errors) {
    REQUIRE(error);
    CHECK(error->code == ErrorCode::kCollectiveMismatch);
    CHECK(error->facts.seq == static_cast<int64_t>(seq));
    CHECK(std::string(error->what()).find("differs between ranks") != std::string::npos);
  }
}

}  // namespace

TEST_CASE("equal calls on devices and on the CPU, in any mixture, are in order") {
  const Watchdog watchdog("equal calls");
  for (const int size : {1, 2, 3, 5}) {
    Ranks ranks(size);
    const auto errors = ranks.run([&](Mesh& mesh) {
      for (uint64_t seq = 1; seq <= 3000; ++seq) {
        if (seq % 7 == 0) {
          exchange(mesh, stampOf(seq));
        } else {
          mesh.announce(deviceStamp(seq, seq));
        }
      }
      exchange(mesh, stampOf(3001));
    });
    for (const auto& error : errors) CHECK_MESSAGE(!error, (error ? error->what() : ""));
  }
}

TEST_CASE("calls on devices that differ fail on all ranks by name") {
  const Watchdog watchdog("differing calls");
  for (const int size : {2, 3, 4}) {
    for (int odd = 0; odd < size; ++odd) {
      Ranks ranks(size);
      checkMismatch(ranks.run([&](Mesh& mesh) {
        mesh.announce(deviceStamp(1));
        mesh.announce(deviceStamp(2, mesh.rank() == odd ? 8 : 9));
        mesh.announce(deviceStamp(3));
        serveOn(mesh);
      }),
                    2);
    }
  }
}

TEST_CASE("the same call on a device and on the CPU differs") {
  const Watchdog watchdog("device and CPU");
  for (int odd = 0; odd < 3; ++odd) {
    Ranks ranks(3);
    checkMismatch(ranks.run([&](Mesh& mesh) {
      mesh.announce(deviceStamp(1));
      if (mesh.rank() == odd) {
        mesh.announce(deviceStamp(2));
        serveOn(mesh);
      } else {
        exchange(mesh, stampOf(2));
      }
    }),
                  2);
  }
}

TEST_CASE("a rank that has left takes part in nothing more") {
  const Watchdog watchdog("left");
  Ranks ranks(3);
  const auto errors = ranks.run([&](Mesh& mesh) {
    mesh.announce(deviceStamp(1));
    if (mesh.rank() == 2) return mesh.close(Deadline::in(Millis{5000}));
    mesh.announce(deviceStamp(2));
    mesh.beside = [&] {
      mesh.checkStaying(deviceStamp(2));
      return Clock::now() + Millis{1};
    };
    serveOn(mesh);
  });
  CHECK(!errors[2]);
  for (const size_t rank : {0u, 1u}) {
    REQUIRE(errors[rank]);
    CHECK(errors[rank]->code == ErrorCode::kRankLost);
    CHECK(errors[rank]->facts.peer == 2);
  }
}

TEST_CASE("a deadline names the ranks that have not called") {
  const Watchdog watchdog("deadline");
  Ranks ranks(4);
  const auto errors = ranks.run([&](Mesh& mesh) {
    mesh.announce(deviceStamp(1));
    // Ranks 1 and 3 do not call the second.
    if (mesh.rank() % 2 == 0) {
      const Stamp stamp = deviceStamp(2);
      mesh.announce(stamp);
      mesh.tellWaiting(stamp);
      const Deadline limit = Deadline::in(Millis{10'000});
      mesh.beside = [&mesh, stamp, limit] {
        // Once the other one that waits has been heard of, nothing more can come.
        if (mesh.missing(stamp).size() == 2) mesh.failLate(stamp, limit);
        return Clock::now() + Millis{1};
      };
    }
    serveOn(mesh);
  });
  for (const auto& error : errors) {
    REQUIRE(error);
    CHECK(error->code == ErrorCode::kTimeout);
    CHECK(error->facts.missing == std::vector<int>{1, 3});
    CHECK(error->facts.seq == 2);
  }
}

TEST_CASE(
    "the hook is called when it wants to be, also within an operation, and its failure is that of all") {
  const Watchdog watchdog("hook");
  Ranks ranks(3);
  std::atomic<int> calls{0};
  const auto errors = ranks.run([&](Mesh& mesh) {
    const Stamp outstanding = deviceStamp(1);
    mesh.announce(outstanding);
    mesh.setBeside(outstanding);
    if (mesh.rank() != 1) return serveOn(mesh);
    mesh.beside = [&] {
      if (++calls == 50) throw Error(ErrorCode::kDevice, "the device is on fire");
      return Clock::now() + std::chrono::microseconds{100};
    };
    exchange(mesh, stampOf(2));  // the others never come
  });
  CHECK(calls == 50);
  for (const auto& error : errors) {
    REQUIRE(error);
    CHECK(error->code == ErrorCode::kDevice);
    CHECK(std::string(error->what()) == "the device is on fire");
  }
  CHECK(!errors[1]->facts.consequence);
  CHECK(errors[0]->facts.consequence);
}
