#include "transport/frame_reader.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>

#include "core/deadline.h"
#include "mesh_support.h"

using namespace nc;
using namespace nc::transport;
using namespace nc::transport::test;

namespace {

// A stream that gives out its bytes in the given portions, with "nothing there now" between them.
class ScriptedSource final : public ByteSource {
 public:
  explicit ScriptedSource(Bytes bytes) : bytes_(std::move(bytes)) {}
  ssize_t read(void* into, size_t n) override {
    ++reads;
    const size_t got = std::min({n, allowed - at, bytes_.size() - at});
    if (got == 0) return ended && at == bytes_.size() ? 0 : -1;
    std::memcpy(into, bytes_.data() + at, got);
    at += got;
    return static_cast<ssize_t>(got);
  }
  size_t size() const { return bytes_.size(); }
  size_t allowed = 0;
  size_t at = 0;
  size_t reads = 0;
  bool ended = false;

 private:
  Bytes bytes_;
};

// Keeps each body in memory of exactly its size, so that a byte too much is found by the sanitizer.
class KeepingSink final : public FrameSink {
 public:
  std::optional<std::byte*> place(const FrameHeader& header) override {
    ++placed;
    if (pause) return std::nullopt;
    if (drop) return nullptr;
    body = std::make_unique<std::byte[]>(header.length);
    return body.get();
  }
  void arrived(const FrameHeader& header) override {
    const std::byte* from = body.get();
    got.emplace_back(header.slot, from == nullptr ? Bytes{} : Bytes(from, from + header.length));
    body.reset();
  }
  bool pause = false;
  bool drop = false;
  int placed = 0;
  std::unique_ptr<std::byte[]> body;
  std::vector<std::pair<uint64_t, Bytes>> got;
};

struct Script {
  std::vector<Bytes> bodies;
  Bytes stream;
};

Script scriptOf(const std::vector<size_t>& sizes) {
  Script script;
  for (size_t i = 0; i < sizes.size(); ++i) {
    script.bodies.push_back(pattern(sizes[i], static_cast<unsigned>(i)));
    FrameHeader header = dataHeader(1, i, sizes[i]);
    header.number = i;
    const Bytes frame = frameBytes(header, script.bodies.back());
    script.stream.insert(script.stream.end(), frame.begin(), frame.end());
  }
  return script;
}

void checkAll(const Script& script, const KeepingSink& sink) {
  REQUIRE(sink.got.size() == script.bodies.size());
  for (size_t i = 0; i < script.bodies.size(); ++i) {
    CHECK(sink.got[i].first == i);
    CHECK(sink.got[i].second == script.bodies[i]);
  }
}

using Status = FrameReader::Status;

// Pumps until nothing more comes.
Status drain(FrameReader& reader, ByteSource& source, FrameSink& sink) {
  Status status{};
  do status = reader.pump(source, sink);
  while (status == Status::kMore);
  return status;
}

}  // namespace

TEST_CASE("frames come whole out of any two parts") {
  const Script script = scriptOf({0, 1, 4, 100, 0, 0, 300, 4});
  for (size_t cut = 0; cut <= script.stream.size(); ++cut) {
    FrameReader reader;
    KeepingSink sink;
    ScriptedSource source(script.stream);
    source.allowed = cut;
    REQUIRE(drain(reader, source, sink) == Status::kDrained);
    source.allowed = source.size();
    source.ended = true;
    // The short read told that nothing is left; the end is seen when it is asked for.
    if (cut < source.size()) REQUIRE(drain(reader, source, sink) == Status::kDrained);
    REQUIRE(drain(reader, source, sink) == Status::kEnded);
    CHECK_FALSE(reader.midFrame());
    checkAll(script, sink);
  }
}

TEST_CASE("frames come whole out of portions of any size") {
  constexpr size_t kAhead = 16 * 1024;
  const Script script =
      scriptOf({0, kAhead - 65, kAhead - 64, kAhead - 63, kAhead, kAhead + 1, 3, 50'000, 0, kAhead - 1, 70});
  for (const size_t portion :
       {1, 2, 3, 7, 63, 64, 65, 128, 1000, 16'383, 16'384, 16'385, 40'000, 1'000'000}) {
    CAPTURE(portion);
    FrameReader reader;
    KeepingSink sink;
    ScriptedSource source(script.stream);
    while (source.allowed < source.size()) {
      source.allowed = std::min(source.allowed + portion, source.size());
      const Status status = drain(reader, source, sink);
      REQUIRE(status == Status::kDrained);
      REQUIRE(source.at == source.allowed);
    }
    checkAll(script, sink);
  }
}

TEST_CASE("many small frames cost one read") {
  const Script script = scriptOf(std::vector<size_t>(100, 4));
  FrameReader reader;
  KeepingSink sink;
  ScriptedSource source(script.stream);
  source.allowed = source.size();
  CHECK(drain(reader, source, sink) == Status::kDrained);
  CHECK(source.reads == 1);
  checkAll(script, sink);
}

TEST_CASE("the end of the stream is told, also within a frame") {
  const Script script = scriptOf({10, 20'000});
  for (size_t cut = 0; cut <= script.stream.size(); cut += cut < 130 ? 1 : 1777) {
    FrameReader reader;
    KeepingSink sink;
    ScriptedSource source(script.stream);
    source.allowed = cut;
    drain(reader, source, sink);
    const Bytes head(script.stream.begin(), script.stream.begin() + static_cast<ptrdiff_t>(cut));
    ScriptedSource over(Bytes{});
    over.ended = true;
    CHECK(drain(reader, over, sink) == Status::kEnded);
    CHECK(drain(reader, over, sink) == Status::kEnded);
    const bool boundary = cut == 0 || cut == kFrameHeaderBytes + 10 || cut == script.stream.size();
    CHECK(reader.midFrame() != boundary);
  }
}

TEST_CASE("a sink that does not take a frame is asked again, and nothing is read meanwhile") {
  const Script script = scriptOf({4, 4, 30'000});
  FrameReader reader;
  KeepingSink sink;
  ScriptedSource source(script.stream);
  source.allowed = source.size();
  sink.pause = true;
  for (int i = 1; i <= 3; ++i) {
    CHECK(reader.pump(source, sink) == Status::kPaused);
    CHECK(sink.placed == i);
    CHECK(source.reads == 1);
    CHECK(reader.midFrame());
    CHECK_FALSE(reader.inBody());
  }
  sink.pause = false;
  CHECK(drain(reader, source, sink) == Status::kDrained);
  checkAll(script, sink);
}

TEST_CASE("a body is redirected at every byte") {
  for (const size_t size : {1, 200, 20'000}) {
    const Script script = scriptOf({size, 5});
    for (size_t cut = kFrameHeaderBytes; cut<kFrameHeaderBytes + size; cut += size> 1000 ? 997 : 1) {
      for (const bool away : {false, true}) {
        FrameReader reader;
        KeepingSink sink;
        ScriptedSource source(script.stream);
        source.allowed = cut;
        CHECK(drain(reader, source, sink) == Status::kDrained);
        REQUIRE(reader.inBody());
        CHECK(reader.header().length == size);
        // The old place is gone at once, as when a buffer is released.
        auto other = away ? nullptr : std::make_unique<std::byte[]>(size);
        reader.redirect(other.get());
        sink.body = std::move(other);
        source.allowed = source.size();
        CHECK(drain(reader, source, sink) == Status::kDrained);
        REQUIRE(sink.got.size() == 2);
        CHECK(sink.got[0].second == (away ? Bytes{} : script.bodies[0]));
        CHECK(sink.got[1].second == script.bodies[1]);
      }
    }
  }
}

TEST_CASE("a dropped body leaves the stream in step") {
  const Script script = scriptOf({100'000, 0, 3});
  FrameReader reader;
  KeepingSink sink;
  ScriptedSource source(script.stream);
  sink.drop = true;
  source.allowed = kFrameHeaderBytes;
  drain(reader, source, sink);
  sink.drop = false;
  source.allowed = source.size();
  drain(reader, source, sink);
  REQUIRE(sink.got.size() == 3);
  CHECK(sink.got[2].second == script.bodies[2]);
}

TEST_CASE("garbage is refused, whatever came before it") {
  Script script = scriptOf({4, 0});
  const Bytes garbage = pattern(64, 3);
  script.stream.insert(script.stream.end(), garbage.begin(), garbage.end());
  FrameReader reader;
  KeepingSink sink;
  ScriptedSource source(script.stream);
  source.allowed = source.size();
  for (int i = 0; i < 3; ++i) {
    const auto error = errorOf([&] { drain(reader, source, sink); });
    REQUIRE(error);
    CHECK(error->code == ErrorCode::kProtocol);
  }
  checkAll(script, sink);
}

TEST_CASE("a frame that is not the next one is refused, and goes on being refused") {
  const Script script = scriptOf({4, 0, 30'000, 4});
  const auto frame = [&](uint64_t number, uint64_t tag) {
    FrameHeader header = dataHeader(1, 9, 0);
    header.number = number;
    header.tag = tag;
    return frameBytes(header);
  };
  for (const auto& [number, tag] : std::vector<std::pair<uint64_t, uint64_t>>{
           {0, 0}, {3, 0}, {5, 0}, {UINT64_MAX, 0}, {4 + (uint64_t{1} << 32), 0}, {4, 1}}) {
    CAPTURE(number);
    Bytes stream = script.stream;
    const Bytes wrong = frame(number, tag);
    const Bytes right = frame(4, 0);
    stream.insert(stream.end(), wrong.begin(), wrong.end());
    stream.insert(stream.end(), right.begin(), right.end());
    FrameReader reader;
    KeepingSink sink;
    ScriptedSource source(stream);
    source.allowed = source.size();
    for (int i = 0; i < 3; ++i) {
      const auto error = errorOf([&] { drain(reader, source, sink); });
      REQUIRE(error);
      CHECK(error->code == ErrorCode::kProtocol);
    }
    checkAll(script, sink);
  }
}

TEST_CASE("with a key only frames that are signed with it are read, whatever bit of the header was changed") {
  const SecretKey secret("a secret of the tests");
  const HeaderKey key(secret.mac("one direction", {}));
  const HeaderKey other(secret.mac("the other", {}));
  const Bytes body = pattern(4, 1);
  const auto frame = [&](const std::optional<HeaderKey>& by) {
    Bytes bytes = frameBytes(dataHeader(1, 9, 4), body);
    if (by) sign(std::span<std::byte, kFrameHeaderBytes>(bytes.data(), kFrameHeaderBytes), *by);
    return bytes;
  };
  const auto read = [&](const Bytes& bytes) {
    FrameReader reader{key};
    KeepingSink sink;
    ScriptedSource source(bytes);
    source.allowed = source.size();
    const auto error = errorOf([&] { drain(reader, source, sink); });
    if (error) CHECK(error->code == ErrorCode::kProtocol);
    CHECK(sink.got.size() == (error ? 0u : 1u));
    return !error;
  };
  CHECK(read(frame(key)));
  CHECK_FALSE(read(frame(std::nullopt)));
  CHECK_FALSE(read(frame(other)));
  for (size_t bit = 0; bit < kFrameHeaderBytes * 8; ++bit) {
    Bytes bytes = frame(key);
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    CAPTURE(bit);
    CHECK_FALSE(read(bytes));
  }
}

TEST_CASE("a sink that throws leaves the reader where it can go on") {
  class Throwing final : public FrameSink {
   public:
    std::optional<std::byte*> place(const FrameHeader&) override {
      if (++places == 1) throw Error(ErrorCode::kInternal, "place");
      return into.data();
    }
    void arrived(const FrameHeader&) override {
      if (++arrivals == 1) throw Error(ErrorCode::kInternal, "arrived");
    }
    int places = 0;
    int arrivals = 0;
    std::array<std::byte, 4> into{};
  };
  const Script script = scriptOf({4, 4});
  FrameReader reader;
  Throwing sink;
  ScriptedSource source(script.stream);
  source.allowed = source.size();
  CHECK_THROWS_WITH(drain(reader, source, sink), "place");
  CHECK_THROWS_WITH(drain(reader, source, sink), "arrived");
  CHECK(drain(reader, source, sink) == Status::kDrained);
  CHECK(sink.places == 3);
  CHECK(sink.arrivals == 2);
}

// A source that never runs dry: the reader has to stop by itself, for the sake of the other links.
TEST_CASE("one sender does not hold the reader") {
  class Endless final : public ByteSource {
   public:
    explicit Endless(Bytes once) : once_(std::move(once)) {}
    ssize_t read(void* into, size_t n) override {
      auto* out = static_cast<std::byte*>(into);
      for (size_t i = 0; i < n; ++i) {
        if (at_ == once_.size()) {
          at_ = 0;
          setNumber(std::span<std::byte, kFrameHeaderBytes>(once_.data(), kFrameHeaderBytes), ++number_);
        }
        out[i] = once_[at_++];
      }
      return static_cast<ssize_t>(n);
    }

   private:
    Bytes once_;
    size_t at_ = 0;
    uint64_t number_ = 0;
  };
  for (const size_t size : {0, 4, 100'000, 10'000'000}) {
    CAPTURE(size);
    Endless source(frameBytes(dataHeader(1, 0, size), pattern(size, 1)));
    FrameReader reader;
    KeepingSink sink;
    for (int i = 0; i < 20; ++i) CHECK(reader.pump(source, sink) == Status::kMore);
    CHECK(sink.placed > 3);
    sink.got.clear();
  }
}
