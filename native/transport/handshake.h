// The first 48 bytes on a new link, each way: who is calling whom, in which group. A stranger, another group,
// an older generation or a rank that is not the expected one does not get past it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace nc::transport {

inline constexpr size_t kHelloBytes = 48;
// Drawn by rank 0 for each group and handed out through the store.
using GroupToken = std::array<std::byte, 16>;

struct Hello {
  GroupToken token{};
  uint32_t generation = 0;
  int32_t from = -1;
  int32_t to = -1;
  int32_t size = 0;
  bool reply = false;

  bool operator==(const Hello&) const = default;
};

std::array<std::byte, kHelloBytes> encode(const Hello& hello) noexcept;
// Nothing for what is no hello of this version.
std::optional<Hello> decodeHello(std::span<const std::byte, kHelloBytes> in) noexcept;

}  // namespace nc::transport
