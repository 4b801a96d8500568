#include "core/secret.h"

#include <sodium.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/error.h"

namespace nc {

namespace {

const unsigned char* raw(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}

unsigned char* raw(std::byte* bytes) {
  return reinterpret_cast<unsigned char*>(bytes);
}

// Chooses the implementations for this processor; again is harmless, from any thread.
void ready() {
  static const bool done = ::sodium_init() >= 0;
  // It fails only where the system gives no random numbers at all; nothing may go on then.
  if (!done) std::abort();
}

void putLength(crypto_hash_sha256_state& state, uint64_t length) {
  ::crypto_hash_sha256_update(&state, reinterpret_cast<const unsigned char*>(&length), sizeof(length));
}

}  // namespace

SecretKey::SecretKey(std::string_view secret) {
  if (secret.size() < kMinSecretBytes) {
    throw Error(ErrorCode::kInvalidArgument,
                "the secret has less than " + std::to_string(kMinSecretBytes) +
                    " bytes; take a random one, e.g. of `openssl rand -base64 32`");
  }
  ready();
  static constexpr std::string_view kUse = "node-collectives secret 1";
  crypto_auth_hmacsha256_state state;
  ::crypto_auth_hmacsha256_init(&state, reinterpret_cast<const unsigned char*>(secret.data()), secret.size());
  ::crypto_auth_hmacsha256_update(&state, reinterpret_cast<const unsigned char*>(kUse.data()), kUse.size());
  ::crypto_auth_hmacsha256_final(&state, raw(key_.data()));
  ::sodium_memzero(&state, sizeof(state));
}

SecretKey::~SecretKey() {
  ::sodium_memzero(key_.data(), key_.size());
}

Digest SecretKey::mac(std::string_view label,
                      std::initializer_list<std::span<const std::byte>> parts) const noexcept {
  Digest out;
  const auto length = static_cast<unsigned char>(label.size());
  crypto_auth_hmacsha256_state state;
  ::crypto_auth_hmacsha256_init(&state, raw(key_.data()), key_.size());
  ::crypto_auth_hmacsha256_update(&state, &length, 1);
  ::crypto_auth_hmacsha256_update(&state, reinterpret_cast<const unsigned char*>(label.data()), label.size());
  for (const auto part : parts) ::crypto_auth_hmacsha256_update(&state, raw(part.data()), part.size());
  ::crypto_auth_hmacsha256_final(&state, raw(out.data()));
  ::sodium_memzero(&state, sizeof(state));
  return out;
}

bool equal(std::span<const std::byte, 32> a, std::span<const std::byte, 32> b) noexcept {
  return ::sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

Digest digestOf(std::initializer_list<std::string_view> parts) noexcept {
  Digest out;
  crypto_hash_sha256_state state;
  ::crypto_hash_sha256_init(&state);
  for (const std::string_view part : parts) {
    putLength(state, part.size());
    ::crypto_hash_sha256_update(&state, reinterpret_cast<const unsigned char*>(part.data()), part.size());
  }
  ::crypto_hash_sha256_final(&state, raw(out.data()));
  return out;
}

void fillRandom(std::span<std::byte> out) noexcept {
  ready();
  ::randombytes_buf(out.data(), out.size());
}

void wipe(std::string& text) noexcept {
  ::sodium_memzero(text.data(), text.size());
  text.clear();
}

static_assert(HeaderKey::kBytes == crypto_shorthash_siphash24_KEYBYTES);
static_assert(sizeof(uint64_t) == crypto_shorthash_siphash24_BYTES);

HeaderKey::HeaderKey(const Digest& derived) noexcept {
  std::memcpy(key_.data(), derived.data(), key_.size());
}

HeaderKey::~HeaderKey() {
  ::sodium_memzero(key_.data(), key_.size());
}

uint64_t HeaderKey::tag(std::span<const std::byte> bytes) const noexcept {
  uint64_t out = 0;
  ::crypto_shorthash_siphash24(reinterpret_cast<unsigned char*>(&out), raw(bytes.data()), bytes.size(),
                               key_.data());
  return out;
}

}  // namespace nc
