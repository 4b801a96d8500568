// Goodbyes: a rank that leaves in good order is not lost, and nothing it has sent is either.
#include <doctest/doctest.h>
#include <poll.h>

#include <array>
#include <atomic>

#include "mesh_support.h"

using namespace nc;
using namespace nc::transport;
using namespace nc::transport::test;

TEST_CASE("a rank may close while another still has to read what it sent") {
  const Watchdog watchdog("close before it is read");
  const Bytes large = pattern(12'000'000, 1);
  for (const Wire wire : kWires) {
    for (const bool unread : {false, true}) {  // something of the reader's lies unread when the link closes
      Ranks ranks(2, wire);
      std::atomic<bool> sent{false};
      const auto errors = ranks.run([&](Mesh& mesh) {
        BufferState state;
        if (mesh.rank() == 0) {
          mesh.begin(stampOf(1), Deadline::in(Millis{20'000}));
          mesh.send(state, 1, 1, large.data(), large.size());
          mesh.waitSend(state);
          mesh.end();
          mesh.close(Deadline::in(Millis{20'000}));
          return;
        }
        if (unread) {
          const int32_t next = 2;
          if (!mesh.trySend(0, 1, stampOf(2), &next, 4)) std::abort();
        }
        Bytes in(large.size());
        mesh.begin(stampOf(1), Deadline::in(Millis{20'000}));
        mesh.recv(state, std::array{0}, 1, in.data(), in.size());
        mesh.waitRecv(state);
        mesh.end();
        if (in != large) throw Error(ErrorCode::kInternal, "data");
        // The next operation cannot be had any more.
        mesh.begin(stampOf(2), Deadline::in(Millis{20'000}));
        mesh.recv(state, std::array{0}, 1, nullptr, 0);
        try {
          mesh.waitRecv(state);
        } catch (const Error&) {
          mesh.release(state);
          throw;
        }
      });
      CHECK_MESSAGE(!errors[0], errors[0]->what());
      REQUIRE(errors[1]);
      CHECK_MESSAGE(errors[1]->code == ErrorCode::kRankLost, errors[1]->what());
      CHECK(errors[1]->facts.peer == 0);
      const std::string text = errors[1]->what();
      CHECK_MESSAGE(text.find("closed the group after operation 1") != std::string::npos, text);
    }
  }
}

TEST_CASE("ranks close at the same time, one by one, or when others are parked") {
  const Watchdog watchdog("close in good order");
  for (const Wire wire : kWires) {
    for (const bool parked : {false, true}) {
      Ranks ranks(3, wire);
      Wake wake;
      std::atomic<int> closed{0};
      const auto errors = ranks.run([&](Mesh& mesh) {
        BufferState state;
        std::array<int32_t, 3> in{};
        const int32_t out = mesh.rank();
        for (uint64_t seq = 1; seq <= 5; ++seq) {
          mesh.begin(stampOf(seq), Deadline::in(Millis{20'000}));
          for (int peer = 0; peer < 3; ++peer) {
            if (peer == mesh.rank()) continue;
            mesh.send(state, peer, 1, &out, 4);
            mesh.recv(state, std::array{peer}, 1, &in[static_cast<size_t>(peer)], 4);
          }
          for (int i = 0; i < 2; ++i) mesh.waitRecv(state);
          for (int i = 0; i < 2; ++i) mesh.waitSend(state);
          mesh.end();
        }
        // Parked: rank 2 watches its links while the others go, and does not take them for lost.
        if (parked && mesh.rank() == 2) mesh.serve(wake.fd());
        mesh.close(Deadline::in(Millis{5000}));
        if (closed.fetch_add(1) + 1 == 2) wake.raise();
      });
      for (const auto& error : errors) CHECK_MESSAGE(!error, error->what());
    }
  }
}

TEST_CASE("a rank that has left with something unread is not waited for any more") {
  const Watchdog watchdog("close to a rank that has reset the link");
  Solo solo(2, Wire::kTcp);
  Raw& other = solo.raw[1];
  // Its system takes its time to say that something has come...
  const int off = 0;
  must(::setsockopt(other.fd.get(), IPPROTO_TCP, TCP_QUICKACK, &off, sizeof(off)) == 0, "TCP_QUICKACK");
  const NamedThread leaving("leaving", [&] {
    pollfd goodbye{other.fd.get(), POLLIN, 0};
    ::poll(&goodbye, 1, -1);
    other.fd.reset();  // ... and now never will: with unread input this resets the connection
  });
  const auto began = Clock::now();
  solo.mesh->close(Deadline::in(Millis{10'000}));
  CHECK(Clock::now() - began < Millis{5'000});
}

TEST_CASE("an end without a goodbye is a loss, also while no operation runs") {
  const Watchdog watchdog("end while parked");
  for (const Wire wire : kWires) {
    Solo solo(3, wire);
    Wake never;
    solo.raw[2].fd.reset();
    const auto error = errorOf([&] { solo.mesh->serve(never.fd()); });
    REQUIRE(error);
    CHECK(error->code == ErrorCode::kRankLost);
    CHECK(error->facts.peer == 2);
    CHECK(error->facts.seq == -1);
    CHECK(solo.raw[1].failure()->facts.peer == 2);
  }
}

TEST_CASE("who said goodbye after the current operation is still part of it") {
  const Watchdog watchdog("goodbye within an operation");
  Solo solo(3);
  solo.begin(4);
  solo.raw[1].write(dataHeader(4, 1, 4), pattern(4, 1));
  solo.raw[1].write(controlHeader(FrameKind::kGoodbye, 4));
  solo.raw[1].fd.reset();
  solo.settle();
  CHECK(solo.receive(1, 1, 4) == pattern(4, 1));
  solo.mesh->end();
  const auto error = errorOf([&] { solo.begin(5); });
  REQUIRE(error);
  CHECK(error->code == ErrorCode::kRankLost);
  CHECK(error->facts.peer == 1);
  CHECK(error->facts.seq == 5);
}

TEST_CASE("a send to a rank that has left in good order does not wait for it") {
  const Watchdog watchdog("send to a rank that has left");
  const Bytes large = pattern(24'000'000, 1);
  for (const Wire wire : kWires) {
    Solo solo(3, wire);
    solo.begin(4, Millis{10'000});
    BufferState state;
    solo.mesh->send(state, 1, 1, large.data(), large.size());
    solo.raw[1].write(controlHeader(FrameKind::kGoodbye, 4));
    solo.raw[1].fd.reset();
    CHECK(solo.mesh->waitSend(state) == 1);
    solo.settle();
    solo.mesh->send(state, 1, 2, large.data(), large.size());
    CHECK(solo.mesh->waitSend(state) == 1);
    CHECK_FALSE(solo.mesh->failed());
    solo.mesh->end();
  }
}

TEST_CASE("a goodbye during an operation that needs the rank ends it") {
  const Watchdog watchdog("goodbye ends an operation");
  Solo solo(3);
  solo.begin(4);
  solo.raw[1].write(controlHeader(FrameKind::kGoodbye, 3));
  const auto error = errorOf([&] { solo.receive(2, 1, 4); });
  REQUIRE(error);
  CHECK(error->code == ErrorCode::kRankLost);
  CHECK(error->facts.peer == 1);
  CHECK(solo.raw[2].failure()->facts.peer == 1);
}

TEST_CASE("closing does not wait beyond its limit, nor after a cancel") {
  const Watchdog watchdog("closing is bounded");
  const Bytes large = pattern(24'000'000, 1);
  for (const bool cancel : {false, true}) {
    Solo solo(2, Wire::kTcp);
    solo.begin(1);
    BufferState state;
    solo.mesh->send(state, 1, 1, large.data(), large.size());
    solo.mesh->release(state);
    solo.mesh->end();
    if (cancel) solo.cancel.cancel(Error(ErrorCode::kAborted, "enough"));
    const auto start = Clock::now();
    const Millis cpu = cpuTime();
    solo.mesh->close(Deadline::in(cancel ? Millis{30'000} : Millis{200}));
    CHECK(Clock::now() - start < Millis{5000});
    CHECK((cpuTime() - cpu).count() < 150);
    solo.mesh->close(Deadline::in(Millis{200}));  // again is no harm
  }
}
