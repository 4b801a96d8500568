// The frame: what travels on a link between two ranks. 48 bytes of header, little-endian, then `length`
// bytes.
//
//   0 u16 magic | 2 u8 version | 3 u8 frame kind | 4 u8 operation | 5 u8 dtype | 6 u8 reduce op | 7 u8 zero
//   8 u32 generation | 12 i32 root | 16 u64 seq | 24 u64 count | 32 u64 slot | 40 u64 length
//
// Every data frame carries its operation's stamp, so a call that does not match is found on arrival.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/error.h"
#include "core/operation.h"

namespace nc::transport {

inline constexpr size_t kFrameHeaderBytes = 48;
inline constexpr uint64_t kMaxDataBytes = uint64_t{1} << 40;  // more than any typed array can hold
inline constexpr uint64_t kMaxControlBytes = 8192;

enum class FrameKind : uint8_t {
  kData = 1,  // a message of an operation
  kCalled,    // "I have called operation seq and wait": tells waiters apart from those who never came
  kFailure,   // the group has failed; the body says why (failure.h)
  kGoodbye,   // the sender closes its side after `seq` operations
};

struct FrameHeader {
  FrameKind kind = FrameKind::kData;
  uint32_t generation = 0;
  Stamp stamp;
  uint64_t slot = 0;
  uint64_t length = 0;
};

void encode(const FrameHeader& header, std::span<std::byte, kFrameHeaderBytes> out) noexcept;

// Throws Error(kProtocol) for anything this version does not send.
FrameHeader decode(std::span<const std::byte, kFrameHeaderBytes> in);

}  // namespace nc::transport
