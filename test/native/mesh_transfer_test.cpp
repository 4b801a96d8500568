// What the mesh does with messages while nothing goes wrong: whatever the order and the fragmentation.
#include <doctest/doctest.h>

#include <array>
#include <atomic>

#include "mesh_support.h"

using namespace nc;
using namespace nc::transport;
using namespace nc::transport::test;

namespace {

// Memory that is gone when the test says so; a later access is the sanitizer's.
struct Buffer {
  explicit Buffer(size_t n) : bytes(n), memory(std::make_unique<std::byte[]>(n)) {}
  explicit Buffer(const Bytes& from) : Buffer(from.size()) {
    std::copy(from.begin(), from.end(), memory.get());
  }
  Bytes copy() const { return {memory.get(), memory.get() + bytes}; }
  size_t bytes;
  std::unique_ptr<std::byte[]> memory;
  BufferState state;
};

struct Cut {
  size_t bytes;
  size_t step;
};
// One that the reader takes with its header, and one that it reads straight into place.
constexpr std::array kCuts{Cut{0, 1}, Cut{100, 1}, Cut{40'000, 997}};

}  // namespace

TEST_CASE("messages written byte by byte") {
  const Watchdog watchdog("messages written byte by byte");
  for (const Wire wire : kWires) {
    Solo solo(2, wire);
    solo.begin(1);
    const std::array<size_t, 6> sizes{0, 1, 63, 64, 65, 1000};
    NamedThread writer("writer", [&] {
      for (size_t i = 0; i < sizes.size(); ++i) {
        const Bytes frame = solo.raw[1].next(dataHeader(1, i, sizes[i]), pattern(sizes[i], 1));
        for (const std::byte& b : frame) solo.raw[1].write(std::span(&b, 1));
      }
    });
    for (size_t i = 0; i < sizes.size(); ++i) CHECK(solo.receive(1, i, sizes[i]) == pattern(sizes[i], 1));
  }
}

TEST_CASE("a receive is posted before, within and after its frame, cut at every byte") {
  const Watchdog watchdog("posted before, within and after");
  enum When { kBefore, kWithin, kAfter };
  for (const Cut& sort : kCuts) {
    Solo solo(3);
    solo.begin(1);
    uint64_t slot = 0;
    for (size_t cut = 0; cut <= kFrameHeaderBytes + sort.bytes; cut += sort.step) {
      for (const When when : {kBefore, kWithin, kAfter}) {
        const Bytes body = pattern(sort.bytes, static_cast<unsigned>(cut));
        const Bytes frame = solo.raw[1].next(dataHeader(1, ++slot, body.size()), body);
        Buffer into(body.size());
        const auto post = [&] {
          solo.mesh->recv(into.state, std::array{1}, slot, into.memory.get(), into.bytes);
        };
        if (when == kBefore) post();
        solo.raw[1].write(std::span(frame).first(cut));
        solo.settle();
        if (when == kWithin) post();
        solo.raw[1].write(std::span(frame).subspan(cut));
        if (when == kAfter) {
          solo.settle();
          post();
        }
        REQUIRE(solo.mesh->waitRecv(into.state) == 1);
        REQUIRE(into.copy() == body);
      }
    }
    CHECK(solo.mesh->earlyFrames() == 0);
  }
}

TEST_CASE("a receive is released at every byte of its frame, and the link stays in step") {
  const Watchdog watchdog("a receive is released");
  for (const Cut& sort : kCuts) {
    Solo solo(3);
    solo.begin(1);
    uint64_t slot = 0;
    for (size_t cut = 0; cut <= kFrameHeaderBytes + sort.bytes; cut += sort.step) {
      for (const bool early : {false, true}) {  // the frame was there before its receive, half of it
        const Bytes body = pattern(sort.bytes, 1);
        const Bytes next = pattern(sort.bytes + 1, 2);
        const Bytes frame = solo.raw[1].next(dataHeader(1, ++slot, body.size()), body);
        auto into = std::make_unique<Buffer>(body.size());
        const auto post = [&] {
          solo.mesh->recv(into->state, std::array{1}, slot, into->memory.get(), into->bytes);
        };
        if (!early) post();
        solo.raw[1].write(std::span(frame).first(cut));
        solo.settle();
        if (early) post();
        solo.mesh->release(into->state);
        into.reset();
        // The next receive is posted while the old frame is half read.
        Buffer after(next.size());
        solo.mesh->recv(after.state, std::array{1}, ++slot, after.memory.get(), after.bytes);
        solo.raw[1].write(std::span(frame).subspan(cut));
        solo.raw[1].write(dataHeader(1, slot, next.size()), next);
        REQUIRE(solo.mesh->waitRecv(after.state) == 1);
        REQUIRE(after.copy() == next);
      }
    }
    solo.mesh->end();
    CHECK(solo.mesh->earlyFrames() == 0);  // what was given up is forgotten with its operation
  }
}

TEST_CASE("a send is released at every stage, and its message still arrives whole") {
  const Watchdog watchdog("a send is released");
  constexpr size_t kBytes = 3 << 20;  // more than any socket takes at once
  for (const Wire wire : kWires) {
    for (const size_t readBefore :
         {size_t{0}, size_t{20}, kFrameHeaderBytes, size_t{5000}, kBytes - 1, kFrameHeaderBytes + kBytes}) {
      CAPTURE(readBefore);
      Solo solo(2, wire);
      solo.begin(1);
      const Bytes body = pattern(kBytes, 5);
      auto first = std::make_unique<Buffer>(body);
      auto second = std::make_unique<Buffer>(body);
      std::atomic<bool> released{false};
      Bytes seen;
      NamedThread far("far", [&] {
        seen = solo.raw[1].read(readBefore);
        solo.raw[1].write(dataHeader(1, 1, 0));
        released.wait(false);
        const Bytes rest = solo.raw[1].read(2 * (kFrameHeaderBytes + kBytes) - readBefore);
        seen.insert(seen.end(), rest.begin(), rest.end());
        solo.raw[1].write(dataHeader(1, 2, 0));
      });
      solo.mesh->send(first->state, 1, 7, first->memory.get(), first->bytes);
      solo.mesh->send(second->state, 1, 8, second->memory.get(), second->bytes);
      solo.receive(1, 1, 0);
      solo.mesh->release(first->state);
      first.reset();
      solo.mesh->release(second->state);
      second.reset();
      released = true;
      released.notify_all();
      solo.receive(1, 2, 0);
      far.join();
      FrameHeader header = dataHeader(1, 7, kBytes);
      Bytes expected = frameBytes(header, body);
      header.slot = 8;
      header.number = 1;
      const Bytes more = frameBytes(header, body);
      expected.insert(expected.end(), more.begin(), more.end());
      CHECK((seen == expected));
    }
  }
}

TEST_CASE("sends complete in order, each once") {
  const Watchdog watchdog("sends complete in order");
  Solo solo(3);
  solo.begin(1);
  const Bytes body = pattern(2 << 20, 1);
  BufferState state;
  BufferState other;
  solo.mesh->send(state, 1, 1, body.data(), body.size());
  solo.mesh->send(state, 1, 2, nullptr, 0);
  solo.mesh->send(state, 2, 3, body.data(), 10);
  solo.mesh->send(other, 1, 4, body.data(), 10);
  NamedThread far("far", [&] {
    for (int i = 0; i < 3; ++i) solo.raw[1].frame();
  });
  CHECK(solo.mesh->waitSend(state) == 2);  // small enough to be written at once
  CHECK(solo.mesh->waitSend(state) == 1);
  CHECK(solo.mesh->waitSend(state) == 1);
  CHECK(solo.mesh->waitSend(other) == 1);
  CHECK(state.sent.empty());
}

TEST_CASE("a receive from any of several ranks takes the first message of each") {
  const Watchdog watchdog("from any");
  for (const bool early : {false, true}) {
    Solo solo(4);
    solo.begin(1);
    std::array<int32_t, 2> values{};
    BufferState state;
    const auto post = [&] {
      for (int32_t& value : values) solo.mesh->recv(state, std::array{1, 2}, 5, &value, sizeof(value));
    };
    if (!early) post();
    for (const int32_t from : {2, 1}) {
      solo.raw[static_cast<size_t>(from)].write(dataHeader(1, 5, 4), std::as_bytes(std::span(&from, 1)));
      solo.settle();
    }
    if (early) post();
    const int a = solo.mesh->waitRecv(state);
    const int b = solo.mesh->waitRecv(state);
    CHECK(a + b == 3);
    CHECK(values[0] == a);
    CHECK(values[1] == b);
    // Not from rank 3, although its slot is the same.
    BufferState third;
    int32_t value = 0;
    solo.mesh->recv(third, std::array{1, 2}, 6, &value, 4);
    const int32_t wrong = 3;
    const int32_t right = 1;
    solo.raw[3].write(dataHeader(1, 6, 4), std::as_bytes(std::span(&wrong, 1)));
    solo.settle();
    solo.raw[1].write(dataHeader(1, 6, 4), std::as_bytes(std::span(&right, 1)));
    CHECK(solo.mesh->waitRecv(third) == 1);
    CHECK(value == 1);
  }
}

TEST_CASE("messages of one slot come in the order they were sent, early or not") {
  const Watchdog watchdog("one slot in order");
  Solo solo(3);
  solo.begin(1);
  for (unsigned i = 0; i < 3; ++i) solo.raw[1].write(dataHeader(1, 5, 50), pattern(50, i));
  const Bytes half = solo.raw[1].next(dataHeader(1, 5, 50), pattern(50, 3));
  solo.raw[1].write(std::span(half).first(70));
  solo.settle();
  CHECK(solo.mesh->earlyFrames() == 4);
  std::array<Bytes, 5> into;
  BufferState state;
  for (Bytes& bytes : into) {
    bytes.resize(50);
    solo.mesh->recv(state, std::array{1}, 5, bytes.data(), bytes.size());
  }
  solo.raw[1].write(std::span(half).subspan(70));
  solo.raw[1].write(dataHeader(1, 5, 50), pattern(50, 4));
  for (unsigned i = 0; i < 5; ++i) CHECK(solo.mesh->waitRecv(state) == 1);
  for (unsigned i = 0; i < 5; ++i) CHECK(into[i] == pattern(50, i));
  CHECK(solo.mesh->earlyFrames() == 0);
}

TEST_CASE("an abort flag ends one wait and is no failure") {
  const Watchdog watchdog("abort flag");
  Solo solo(2);
  solo.begin(1);
  BufferState state;
  int32_t value = 0;
  solo.mesh->recv(state, std::array{1}, 5, &value, 4);
  state.abortRecv = state.abortSend = true;
  CHECK(solo.mesh->waitRecv(state) == -1);
  CHECK(solo.mesh->waitSend(state) == -1);
  const int32_t sent = 42;
  solo.raw[1].write(dataHeader(1, 5, 4), std::as_bytes(std::span(&sent, 1)));
  CHECK(solo.mesh->waitRecv(state) == 1);
  CHECK(value == 42);
  CHECK_FALSE(solo.mesh->failed());
}

TEST_CASE("large messages cross each other on every link") {
  const Watchdog watchdog("large messages cross");
  for (const Wire wire : kWires) {
    Ranks ranks(3, wire);
    const auto errors = ranks.run([&](Mesh& mesh) {
      const auto self = static_cast<unsigned>(mesh.rank());
      const Bytes out = pattern(9'000'000, self);
      std::array<Bytes, 3> in;
      BufferState state;
      mesh.begin(stampOf(1), Deadline::in(Millis{30'000}));
      for (int peer = 0; peer < 3; ++peer) {
        if (peer != mesh.rank()) mesh.send(state, peer, 1, out.data(), out.size());
      }
      for (int peer = 0; peer < 3; ++peer) {
        if (peer == mesh.rank()) continue;
        in[static_cast<size_t>(peer)].resize(out.size());
        mesh.recv(state, std::array{peer}, 1, in[static_cast<size_t>(peer)].data(), out.size());
      }
      for (int i = 0; i < 2; ++i) mesh.waitRecv(state);
      for (int i = 0; i < 2; ++i) mesh.waitSend(state);
      mesh.end();
      for (unsigned peer = 0; peer < 3; ++peer) {
        if (peer != self && in[peer] != pattern(9'000'000, peer)) throw Error(ErrorCode::kInternal, "data");
      }
      mesh.close(Deadline::in(Millis{5000}));
    });
    for (const auto& error : errors) CHECK_MESSAGE(!error, error->what());
  }
}

TEST_CASE("another thread sends the first message while the group's thread is parked") {
  const Watchdog watchdog("trySend");
  for (const Wire wire : kWires) {
    Solo solo(2, wire);
    constexpr uint64_t kRounds = 200;
    NamedThread far("far", [&] {
      for (uint64_t seq = 1; seq <= kRounds; ++seq) {
        const auto got = solo.raw[1].frame();
        if (!got || got->first.stamp.seq != seq) return;
        solo.raw[1].write(dataHeader(seq, 1, 4), got->second);
      }
    });
    for (uint64_t seq = 1; seq <= kRounds; ++seq) {
      Wake wake;
      const auto value = static_cast<int32_t>(seq);
      NamedThread caller("caller", [&] {
        if (!solo.mesh->trySend(1, 1, stampOf(seq), &value, 4)) std::abort();
        wake.raise();
      });
      solo.mesh->serve(wake.fd());
      solo.begin(seq);
      int32_t back = 0;
      BufferState state;
      solo.mesh->recv(state, std::array{1}, 1, &back, 4);
      CHECK(solo.mesh->waitRecv(state) == 1);
      CHECK(back == value);
      solo.mesh->end();
    }
  }
}

TEST_CASE("trySend writes all or nothing, whatever the link takes") {
  const Watchdog watchdog("trySend all or nothing");
  for (const Wire wire : kWires) {
    Solo solo(2, wire);
    const Bytes body = pattern(64, 1);
    CHECK_FALSE(solo.mesh->trySend(1, 1, stampOf(1), pattern(65, 1).data(), 65));
    uint64_t sent = 0;
    while (solo.mesh->trySend(1, sent, stampOf(1), body.data(), sent % 65)) ++sent;
    CHECK(sent > 50);
    // A frame of which only a part was taken is finished as soon as the group's thread waits.
    solo.begin(1);
    NamedThread far("far", [&] {
      for (uint64_t i = 0; i < sent; ++i) {
        const auto got = solo.raw[1].frame();
        if (!got || got->first.slot != i || got->second != Bytes(body.begin(), body.begin() + i % 65)) {
          std::abort();
        }
      }
      solo.raw[1].write(dataHeader(1, 1, 0));
    });
    solo.receive(1, 1, 0);
  }
}

TEST_CASE("a group of one needs no links") {
  Cancel cancel;
  Mesh mesh(0, 1, kGeneration, {}, cancel);
  mesh.begin(stampOf(1), Deadline::in(Millis{1000}));
  mesh.end();
  mesh.close(Deadline::in(Millis{1000}));
}

TEST_CASE("a mesh takes exactly one link for each other rank") {
  Cancel cancel;
  CHECK_THROWS_AS(Mesh(0, 2, kGeneration, {}, cancel), Error);
  std::vector<LinkEnd> twice;
  for (int i = 0; i < 2; ++i) twice.push_back(linkEnd(1, wirePair(Wire::kUnix).first));
  CHECK_THROWS_AS(Mesh(0, 3, kGeneration, std::move(twice), cancel), Error);
}
