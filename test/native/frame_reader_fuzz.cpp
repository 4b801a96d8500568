// The frame reader against any bytes, in any portions, under a sink that does what a mesh does: takes frames
// in place, keeps them aside and moves them later, drops them, gives a buffer up half way, holds back.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "transport/frame_reader.h"

using namespace nc;
using namespace nc::transport;

namespace {

void require(bool ok) {
  if (!ok) std::abort();
}

// Bodies that claim more are dropped: the claim alone must cost no memory, and the input never holds so much.
constexpr uint64_t kMostBytes = 1 << 18;

std::vector<std::byte> streamOf(FuzzedDataProvider& fuzz) {
  std::vector<std::byte> stream;
  uint64_t number = 0;
  const auto add = [&](const std::vector<uint8_t>& bytes) {
    const auto* at = reinterpret_cast<const std::byte*>(bytes.data());
    stream.insert(stream.end(), at, at + bytes.size());
  };
  for (int i = fuzz.ConsumeIntegralInRange(0, 12); i > 0; --i) {
    if (fuzz.ConsumeIntegralInRange(0, 15) == 0) add(fuzz.ConsumeBytes<uint8_t>(60));
    FrameHeader header;
    const bool data = fuzz.ConsumeBool();
    header.kind =
        data ? FrameKind::kData
             : static_cast<FrameKind>(fuzz.ConsumeIntegralInRange(2, static_cast<int>(kLastFrameKind)));
    header.generation = fuzz.ConsumeIntegral<uint8_t>();
    header.stamp = {
        fuzz.ConsumeIntegral<uint8_t>(), OpKind::kAllReduce, DType::kInt32, ReduceOp::kSum, -1, 1};
    header.slot = fuzz.ConsumeIntegral<uint8_t>();
    header.number = number++;
    if (fuzz.ConsumeIntegralInRange(0, 31) == 0) header.number = fuzz.ConsumeIntegral<uint8_t>();
    if (fuzz.ConsumeIntegralInRange(0, 31) == 0) header.tag = fuzz.ConsumeIntegral<uint8_t>();
    switch (fuzz.ConsumeIntegralInRange(0, 3)) {
      case 0:
        header.length = fuzz.ConsumeIntegralInRange<uint64_t>(0, 80);
        break;
      case 1:
        header.length = fuzz.ConsumeIntegralInRange<uint64_t>(0, kMaxControlBytes);
        break;
      case 2:
        header.length = fuzz.ConsumeIntegralInRange<uint64_t>(16'200, 16'500);
        break;
      default:
        header.length = fuzz.ConsumeIntegralInRange<uint64_t>(0, 60'000);
    }
    const size_t at = stream.size();
    stream.resize(at + kFrameHeaderBytes + header.length);
    encode(header, std::span<std::byte, kFrameHeaderBytes>(&stream[at], kFrameHeaderBytes));
    for (size_t b = 0; b < header.length; ++b) {
      stream[at + kFrameHeaderBytes + b] = static_cast<std::byte>(b * 7 + at);
    }
  }
  if (fuzz.ConsumeBool()) add(fuzz.ConsumeBytes<uint8_t>(2000));
  return stream;
}

class Source final : public ByteSource {
 public:
  Source(std::vector<std::byte> stream, FuzzedDataProvider& fuzz) : stream_(std::move(stream)), fuzz_(fuzz) {}
  ssize_t read(void* into, size_t n) override {
    require(n > 0);
    if (at == stream_.size()) return 0;
    size_t most = stream_.size() - at;
    if (fuzz_.remaining_bytes() == 0) return copy(into, std::min(n, most));  // no more decisions: all at once
    switch (fuzz_.ConsumeIntegralInRange(0, 3)) {
      case 0:
        return -1;
      case 1:
        most = std::min<size_t>(most, fuzz_.ConsumeIntegralInRange(1, 100));
        break;
      case 2:
        most = std::min<size_t>(most, fuzz_.ConsumeIntegralInRange(1, 20'000));
        break;
      default:
        break;
    }
    return copy(into, std::min(n, most));
  }
  const std::vector<std::byte>& stream() const { return stream_; }
  size_t at = 0;

 private:
  ssize_t copy(void* into, size_t n) {
    std::memcpy(into, stream_.data() + at, n);
    at += n;
    return static_cast<ssize_t>(n);
  }

  std::vector<std::byte> stream_;
  FuzzedDataProvider& fuzz_;
};

class Sink final : public FrameSink {
 public:
  Sink(const Source& source, FuzzedDataProvider& fuzz) : source_(source), fuzz_(fuzz) {}

  std::optional<std::byte*> place(const FrameHeader& header) override {
    require(!inBody);
    require(header.number == count && header.tag == 0);
    // The header is the one at this place of the stream, and a held back one stays the same.
    require(next + kFrameHeaderBytes <= source_.at);
    const FrameHeader there = decode(
        std::span<const std::byte, kFrameHeaderBytes>(source_.stream().data() + next, kFrameHeaderBytes));
    require(there.kind == header.kind && there.slot == header.slot && there.length == header.length &&
            there.stamp == header.stamp && there.generation == header.generation);
    const int choice = fuzz_.ConsumeIntegralInRange(0, 7);
    if (choice == 0 && held < 50) {
      ++held;
      return std::nullopt;
    }
    inBody = true;
    if (choice == 1 || header.length > kMostBytes) {
      body.reset();
      return nullptr;
    }
    body = std::make_unique<std::byte[]>(header.length);
    return body.get();
  }

  void arrived(const FrameHeader& header) override {
    require(inBody);
    const size_t at = next + kFrameHeaderBytes;
    require(at + header.length <= source_.at);
    if (body && header.length > 0) {
      require(std::memcmp(body.get(), source_.stream().data() + at, header.length) == 0);
    }
    next = at + header.length;
    inBody = false;
    body.reset();
    ++count;
  }

  bool inBody = false;
  int held = 0;
  uint64_t count = 0;  // frames that have come
  size_t next = 0;     // where the next frame begins in the stream
  std::unique_ptr<std::byte[]> body;

 private:
  const Source& source_;
  FuzzedDataProvider& fuzz_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider fuzz(data, size);
  const std::vector<std::byte> stream = streamOf(fuzz);
  Source source(stream, fuzz);
  Sink sink(source, fuzz);
  FrameReader reader;
  try {
    for (;;) {
      const FrameReader::Status status = reader.pump(source, sink);
      require(reader.inBody() == sink.inBody);
      if (status == FrameReader::Status::kEnded) {
        require(source.at == stream.size());
        require(reader.midFrame() == (sink.next != source.at));
        break;
      }
      if (status == FrameReader::Status::kPaused) require(!reader.inBody() && reader.midFrame());
      if (!reader.inBody() || !sink.body) continue;
      const int choice = fuzz.ConsumeIntegralInRange(0, 5);
      if (choice == 0) {  // given up
        reader.redirect(nullptr);
        sink.body.reset();
      } else if (choice == 1) {  // asked for while half of it lies aside
        auto other = std::make_unique<std::byte[]>(reader.header().length);
        reader.redirect(other.get());
        sink.body = std::move(other);
      }
    }
  } catch (const Error& error) {
    require(error.code == ErrorCode::kProtocol);
    require(!sink.inBody);
  }
  return 0;
}
