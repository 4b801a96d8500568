// The frame: what travels on a link between two ranks. 64 bytes of header, little-endian, then `length`
// bytes.
//
//   0 u16 magic | 2 u8 version | 3 u8 frame kind | 4 u8 operation | 5 u8 dtype | 6 u8 reduce op |
//   7 u8 place: 0 the CPU, 1 the ranks' devices |
//   8 u32 generation | 12 i32 root | 16 u64 seq | 24 u64 count | 32 u64 slot | 40 u64 length
//   48 u64 number | 56 u64 tag
//
// Every data frame carries its operation's stamp, so a call that does not match is found on arrival. Frames
// of a link are numbered from 0 in the order in which they are written: a repeated, missing or moved one is
// found as well. The tag is zero where the group has no secret; otherwise it signs the 56 bytes before it
// with a key of this link and direction. Bodies are not signed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/error.h"
#include "core/operation.h"
#include "core/secret.h"

namespace nc::transport {

inline constexpr size_t kFrameHeaderBytes = 64;
inline constexpr uint64_t kMaxDataBytes = uint64_t{1} << 40;  // more than any typed array can hold
inline constexpr uint64_t kMaxControlBytes = 8192;

enum class FrameKind : uint8_t {
  kData = 1,  // a message of an operation
  kCalled,    // "I have called operation seq and wait": tells waiters apart from those who never came
  kFailure,   // the group has failed; the body says why (failure.h)
  kGoodbye,   // the sender closes its side after `seq` operations
  kPulse,     // the sender is alive, and had nothing else to say
  kMessage,   // of send(): `seq` counts the messages from this rank to that one, `slot` is the caller's tag
};
inline constexpr FrameKind kLastFrameKind = FrameKind::kMessage;

// In the slot of a kCalled that asks for no answer. For a message between devices the slot is the caller's
// tag, and there never is an answer.
inline constexpr uint64_t kAnnouncement = 1;

struct FrameHeader {
  FrameKind kind = FrameKind::kData;
  uint32_t generation = 0;
  Stamp stamp;
  uint64_t slot = 0;
  uint64_t length = 0;
  uint64_t number = 0;  // given by the link when the frame's turn comes
  uint64_t tag = 0;
};

void encode(const FrameHeader& header, std::span<std::byte, kFrameHeaderBytes> out) noexcept;
// Numbers a header that is encoded already.
void setNumber(std::span<std::byte, kFrameHeaderBytes> header, uint64_t number) noexcept;
// Signs it; the number has to be there.
void sign(std::span<std::byte, kFrameHeaderBytes> header, const HeaderKey& key) noexcept;
bool signedWith(std::span<const std::byte, kFrameHeaderBytes> header, const HeaderKey& key) noexcept;

// Throws Error(kProtocol) for anything this version does not send.
FrameHeader decode(std::span<const std::byte, kFrameHeaderBytes> in);

}  // namespace nc::transport
