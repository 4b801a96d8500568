// The secret that the processes of a group share, as a key, and what is computed with it: HMAC-SHA-256 for
// proofs, SipHash-2-4 for the headers of frames. The functions are libsodium's; they take no time that
// depends on the secret. Objects may be used by several threads at once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace nc {

using Digest = std::array<std::byte, 32>;

// Below this a secret can be found by trying: whoever reads one handshake can try guesses at home.
inline constexpr size_t kMinSecretBytes = 16;

class SecretKey {
 public:
  // Throws kInvalidArgument for less than kMinSecretBytes. Keeps only what is derived from it.
  explicit SecretKey(std::string_view secret);
  ~SecretKey();
  SecretKey(const SecretKey&) = delete;
  SecretKey& operator=(const SecretKey&) = delete;

  // HMAC-SHA-256 over `label`, whose length is counted, and the parts, which have to be of fixed lengths.
  Digest mac(std::string_view label, std::initializer_list<std::span<const std::byte>> parts) const noexcept;

 private:
  Digest key_;
};

// In constant time.
bool equal(std::span<const std::byte, 32> a, std::span<const std::byte, 32> b) noexcept;
// SHA-256 of the parts, each with its length before it.
Digest digestOf(std::initializer_list<std::string_view> parts) noexcept;
void fillRandom(std::span<std::byte> out) noexcept;
// Overwrites a secret that is not needed any more.
void wipe(std::string& text) noexcept;

// Signs the headers of one direction of a link.
class HeaderKey {
 public:
  static constexpr size_t kBytes = 16;
  explicit HeaderKey(const Digest& derived) noexcept;
  HeaderKey(const HeaderKey&) noexcept = default;
  HeaderKey& operator=(const HeaderKey&) noexcept = default;
  ~HeaderKey();
  uint64_t tag(std::span<const std::byte> bytes) const noexcept;

 private:
  std::array<unsigned char, kBytes> key_;
};

}  // namespace nc
