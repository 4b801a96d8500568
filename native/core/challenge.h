// How two processes prove to each other that they have the same secret, before anything else is said on a
// connection. Knows no sockets. docs/security.md has the protocol and the reasons.
//
//   greeting  caller -> listener  magic, purpose, who calls whom, scope, 32 random bytes
//   answer    listener -> caller  the same of the listener, and its proof
//   proof     caller -> listener  the caller's proof
//
// A proof is the HMAC of greeting and answer, under a label that says whose it is: it fits this connection,
// these two, this purpose and this direction, and no other. Every message has a fixed length, so nothing is
// allocated for a stranger.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "core/secret.h"

namespace nc {

inline constexpr size_t kGreetingBytes = 84;
inline constexpr size_t kProofBytes = 32;
inline constexpr size_t kAnswerBytes = kGreetingBytes + kProofBytes;
// What a store says to a caller with whom there can be no handshake; it hangs up then.
inline constexpr size_t kRefusalBytes = 8;

using Greeting = std::array<std::byte, kGreetingBytes>;
using Answer = std::array<std::byte, kAnswerBytes>;
using Proof = std::array<std::byte, kProofBytes>;

enum class Purpose : uint8_t {
  kStore = 1,   // TcpStore
  kGroupStore,  // the store in which a group's ranks meet
  kLink,        // between two ranks
};

// What one side says of itself and of whom it expects.
struct Claim {
  Purpose purpose = Purpose::kStore;
  int32_t from = -1;  // rank, -1 where there is none
  int32_t to = -1;
  Digest scope{};  // scopeOf() the group

  bool operator==(const Claim&) const = default;
};

// Group, job and generation in 32 bytes.
Digest scopeOf(std::string_view group, std::string_view job, uint32_t generation);

// A secret and what it is to be proven for; no key: there is no secret.
struct Credentials {
  std::shared_ptr<const SecretKey> key;
  Claim claim;

  explicit operator bool() const { return key != nullptr; }
};

// The keys of a link's two directions, as one side sees them.
struct LinkKeys {
  HeaderKey out;
  HeaderKey in;
};

// False as soon as what has come so far cannot be the beginning of a greeting or an answer.
bool startsLikeGreeting(std::span<const std::byte> prefix) noexcept;

enum class Refusal : uint8_t { kSecretNeeded = 1, kNoSecretHere };
std::array<std::byte, kRefusalBytes> refusalBytes(Refusal why) noexcept;
std::optional<Refusal> decodeRefusal(std::span<const std::byte> bytes) noexcept;  // at least kRefusalBytes
bool startsLikeRefusal(std::span<const std::byte> prefix) noexcept;

// The caller's side. The key must outlive it.
class Caller {
 public:
  explicit Caller(const Credentials& credentials);
  const Greeting& greeting() const { return greeting_; }
  enum class Outcome {
    kProven,
    kNotThis,   // it does not speak this
    kUnproven,  // it has another secret, or speaks for another purpose or other ranks than it was called for
  };
  Outcome check(std::span<const std::byte, kAnswerBytes> answer);
  // Once proven:
  bool sameScope() const { return sameScope_; }
  Proof proof() const;
  LinkKeys linkKeys() const;

 private:
  Credentials own_;
  Greeting greeting_;
  Greeting theirs_{};
  bool sameScope_ = false;
};

// The listener's side. `claim.from` is its own rank; whom it is called by is for it to judge: peer().
class Callee {
 public:
  explicit Callee(const Credentials& credentials) : own_(credentials) {}
  // Nothing for what is no greeting for this purpose.
  std::optional<Answer> answer(std::span<const std::byte, kGreetingBytes> greeting);
  // After answer().
  const Claim& peer() const { return peer_; }
  bool sameScope() const { return peer_.scope == own_.claim.scope; }
  bool check(std::span<const std::byte, kProofBytes> proof) const;
  LinkKeys linkKeys() const;  // once proven

 private:
  Credentials own_;
  Claim peer_;
  Greeting theirs_{};
  Greeting greeting_{};
};

}  // namespace nc
