#include "transport/handshake.h"

#include <cstring>

namespace nc::transport {

namespace {
constexpr std::array<char, 8> kMagic{'N', 'C', 'O', 'L', 'L', '\r', '\n', 1};
}

//   0 magic, version last | 8 token | 24 u32 generation | 28 i32 from | 32 i32 to | 36 i32 size | 40 u32
//   reply | 44 zero
std::array<std::byte, kHelloBytes> encode(const Hello& hello) noexcept {
  std::array<std::byte, kHelloBytes> out{};
  const auto reply = static_cast<uint32_t>(hello.reply ? 1 : 0);
  std::memcpy(out.data(), kMagic.data(), kMagic.size());
  std::memcpy(&out[8], hello.token.data(), hello.token.size());
  std::memcpy(&out[24], &hello.generation, 4);
  std::memcpy(&out[28], &hello.from, 4);
  std::memcpy(&out[32], &hello.to, 4);
  std::memcpy(&out[36], &hello.size, 4);
  std::memcpy(&out[40], &reply, 4);
  return out;
}

std::optional<Hello> decodeHello(std::span<const std::byte, kHelloBytes> in) noexcept {
  Hello hello;
  uint32_t reply = 0;
  uint32_t zero = 0;
  if (std::memcmp(in.data(), kMagic.data(), kMagic.size()) != 0) return std::nullopt;
  std::memcpy(hello.token.data(), &in[8], hello.token.size());
  std::memcpy(&hello.generation, &in[24], 4);
  std::memcpy(&hello.from, &in[28], 4);
  std::memcpy(&hello.to, &in[32], 4);
  std::memcpy(&hello.size, &in[36], 4);
  std::memcpy(&reply, &in[40], 4);
  std::memcpy(&zero, &in[44], 4);
  if (reply > 1 || zero != 0) return std::nullopt;
  hello.reply = reply == 1;
  return hello;
}

}  // namespace nc::transport
