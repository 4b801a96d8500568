#include "transport/frame.h"

#include <bit>
#include <cstring>
#include <string>

namespace nc::transport {

namespace {

constexpr uint16_t kMagic = 0x434E;  // "NC"
constexpr uint8_t kVersion = 2;
constexpr size_t kSignedBytes = kFrameHeaderBytes - sizeof(uint64_t);

static_assert(std::endian::native == std::endian::little, "frames are written as they lie in memory");

template <typename T>
void put(std::byte* at, T value) noexcept {
  std::memcpy(at, &value, sizeof(value));
}

template <typename T>
T take(const std::byte* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::kProtocol, "a frame arrived that this version cannot read: " + what);
}

// A data frame's stamp must name things that exist; control frames may leave it empty.
void checkStamp(const Stamp& stamp, bool data) {
  const auto kind = static_cast<uint8_t>(stamp.kind);
  const auto dtype = static_cast<uint8_t>(stamp.dtype);
  const auto op = static_cast<uint8_t>(stamp.reduceOp);
  if (kind > static_cast<uint8_t>(kLastOpKind) || (data && kind == 0)) refuse("unknown operation");
  if (dtype > static_cast<uint8_t>(kLastDType) || (data && dtype == 0)) refuse("unknown data type");
  if (op > static_cast<uint8_t>(ReduceOp::kBxor)) refuse("unknown reduce op");
}

}  // namespace

void encode(const FrameHeader& header, std::span<std::byte, kFrameHeaderBytes> out) noexcept {
  std::byte* at = out.data();
  put(at, kMagic);
  put(at + 2, kVersion);
  put(at + 3, static_cast<uint8_t>(header.kind));
  put(at + 4, static_cast<uint8_t>(header.stamp.kind));
  put(at + 5, static_cast<uint8_t>(header.stamp.dtype));
  put(at + 6, static_cast<uint8_t>(header.stamp.reduceOp));
  put(at + 7, static_cast<uint8_t>(header.stamp.device ? 1 : 0));
  put(at + 8, header.generation);
  put(at + 12, header.stamp.root);
  put(at + 16, header.stamp.seq);
  put(at + 24, header.stamp.count);
  put(at + 32, header.slot);
  put(at + 40, header.length);
  put(at + 48, header.number);
  put(at + 56, header.tag);
}

void setNumber(std::span<std::byte, kFrameHeaderBytes> header, uint64_t number) noexcept {
  put(header.data() + 48, number);
}

void sign(std::span<std::byte, kFrameHeaderBytes> header, const HeaderKey& key) noexcept {
  put(header.data() + kSignedBytes, key.tag(header.first(kSignedBytes)));
}

bool signedWith(std::span<const std::byte, kFrameHeaderBytes> header, const HeaderKey& key) noexcept {
  return take<uint64_t>(header.data() + kSignedBytes) == key.tag(header.first(kSignedBytes));
}

FrameHeader decode(std::span<const std::byte, kFrameHeaderBytes> in) {
  const std::byte* at = in.data();
  if (take<uint16_t>(at) != kMagic) refuse("bad magic number");
  if (take<uint8_t>(at + 2) != kVersion) refuse("version " + std::to_string(take<uint8_t>(at + 2)));
  const auto kind = take<uint8_t>(at + 3);
  if (kind < static_cast<uint8_t>(FrameKind::kData) || kind > static_cast<uint8_t>(kLastFrameKind)) {
    refuse("unknown frame kind " + std::to_string(kind));
  }
  const bool data =
      kind == static_cast<uint8_t>(FrameKind::kData) || kind == static_cast<uint8_t>(FrameKind::kMessage);
  const auto place = take<uint8_t>(at + 7);
  // What runs on devices sends no data of its own on a link.
  if (place > (data ? 0 : 1)) refuse("unknown place " + std::to_string(place));
  FrameHeader header;
  header.kind = static_cast<FrameKind>(kind);
  header.stamp.kind = static_cast<OpKind>(take<uint8_t>(at + 4));
  header.stamp.dtype = static_cast<DType>(take<uint8_t>(at + 5));
  header.stamp.reduceOp = static_cast<ReduceOp>(take<uint8_t>(at + 6));
  header.generation = take<uint32_t>(at + 8);
  header.stamp.root = take<int32_t>(at + 12);
  header.stamp.seq = take<uint64_t>(at + 16);
  header.stamp.count = take<uint64_t>(at + 24);
  header.stamp.device = place == 1;
  header.slot = take<uint64_t>(at + 32);
  header.length = take<uint64_t>(at + 40);
  header.number = take<uint64_t>(at + 48);
  header.tag = take<uint64_t>(at + 56);
  checkStamp(header.stamp, data);
  if (header.length > (data ? kMaxDataBytes : kMaxControlBytes)) {
    refuse("length " + std::to_string(header.length));
  }
  return header;
}

}  // namespace nc::transport
