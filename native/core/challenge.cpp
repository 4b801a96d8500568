#include "core/challenge.h"

#include <algorithm>
#include <cstring>

namespace nc {

namespace {

// The last byte is the version.
constexpr std::array<unsigned char, 8> kMagic{'N', 'C', 'S', 'E', 'C', '\r', '\n', 1};
constexpr std::array<unsigned char, 7> kNo{'N', 'C', 'N', 'O', 'N', 'E', '\n'};
constexpr std::string_view kCallerProof = "caller";
constexpr std::string_view kCalleeProof = "callee";
constexpr std::string_view kCallerKey = "caller's frames";
constexpr std::string_view kCalleeKey = "callee's frames";

enum class Side : uint8_t { kCaller = 1, kCallee };

//   0 magic | 8 purpose | 9 side | 10 zero | 12 i32 from | 16 i32 to | 20 scope | 52 random
constexpr size_t kScopeAt = 20;
constexpr size_t kRandomAt = 52;
static_assert(kRandomAt + 32 == kGreetingBytes);

Greeting greetingOf(const Claim& claim, Side side) {
  Greeting out{};
  std::memcpy(out.data(), kMagic.data(), kMagic.size());
  out[8] = static_cast<std::byte>(claim.purpose);
  out[9] = static_cast<std::byte>(side);
  std::memcpy(&out[12], &claim.from, 4);
  std::memcpy(&out[16], &claim.to, 4);
  std::memcpy(&out[kScopeAt], claim.scope.data(), claim.scope.size());
  fillRandom(std::span(out).subspan(kRandomAt));
  return out;
}

std::optional<Claim> decode(std::span<const std::byte, kGreetingBytes> in, Side side) {
  Claim claim;
  if (!startsLikeGreeting(in) || in[9] != static_cast<std::byte>(side)) return std::nullopt;
  if (in[10] != std::byte{0} || in[11] != std::byte{0}) return std::nullopt;
  claim.purpose = static_cast<Purpose>(in[8]);
  std::memcpy(&claim.from, &in[12], 4);
  std::memcpy(&claim.to, &in[16], 4);
  std::memcpy(claim.scope.data(), &in[kScopeAt], claim.scope.size());
  return claim;
}

bool beginsWith(std::span<const std::byte> prefix, std::span<const unsigned char> whole) {
  const size_t count = std::min(prefix.size(), whole.size());
  return std::equal(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(count), prefix.begin(),
                    [](unsigned char a, std::byte b) { return std::byte{a} == b; });
}

HeaderKey keyOf(const SecretKey& key, std::string_view label, const Greeting& caller,
                const Greeting& callee) {
  return HeaderKey(key.mac(label, {caller, callee}));
}

}  // namespace

Digest scopeOf(std::string_view group, std::string_view job, uint32_t generation) {
  return digestOf({group, job, std::string_view(reinterpret_cast<const char*>(&generation), 4)});
}

bool startsLikeGreeting(std::span<const std::byte> prefix) noexcept {
  return beginsWith(prefix, kMagic);
}

std::array<std::byte, kRefusalBytes> refusalBytes(Refusal why) noexcept {
  std::array<std::byte, kRefusalBytes> out;
  std::memcpy(out.data(), kNo.data(), kNo.size());
  out.back() = static_cast<std::byte>(why);
  return out;
}

std::optional<Refusal> decodeRefusal(std::span<const std::byte> bytes) noexcept {
  if (bytes.size() < kRefusalBytes || !startsLikeRefusal(bytes)) return std::nullopt;
  const auto why = static_cast<Refusal>(bytes[kRefusalBytes - 1]);
  if (why != Refusal::kSecretNeeded && why != Refusal::kNoSecretHere) return std::nullopt;
  return why;
}

bool startsLikeRefusal(std::span<const std::byte> prefix) noexcept {
  return beginsWith(prefix, kNo);
}

Caller::Caller(const Credentials& credentials)
    : own_(credentials), greeting_(greetingOf(own_.claim, Side::kCaller)) {}

Caller::Outcome Caller::check(std::span<const std::byte, kAnswerBytes> answer) {
  const auto theirs = answer.first<kGreetingBytes>();
  const auto claim = decode(theirs, Side::kCallee);
  if (!claim) return Outcome::kNotThis;
  std::copy(theirs.begin(), theirs.end(), theirs_.begin());
  const Digest expected = own_.key->mac(kCalleeProof, {greeting_, theirs_});
  if (!equal(answer.last<kProofBytes>(), expected)) return Outcome::kUnproven;
  // The listener of another rank, or of another purpose, with the same secret: somebody has led us astray.
  if (claim->purpose != own_.claim.purpose || claim->from != own_.claim.to || claim->to != own_.claim.from) {
    return Outcome::kUnproven;
  }
  sameScope_ = claim->scope == own_.claim.scope;
  return Outcome::kProven;
}

Proof Caller::proof() const {
  return own_.key->mac(kCallerProof, {greeting_, theirs_});
}

LinkKeys Caller::linkKeys() const {
  return {keyOf(*own_.key, kCallerKey, greeting_, theirs_), keyOf(*own_.key, kCalleeKey, greeting_, theirs_)};
}

std::optional<Answer> Callee::answer(std::span<const std::byte, kGreetingBytes> greeting) {
  const auto claim = decode(greeting, Side::kCaller);
  if (!claim || claim->purpose != own_.claim.purpose) return std::nullopt;
  peer_ = *claim;
  std::copy(greeting.begin(), greeting.end(), theirs_.begin());
  Claim own = own_.claim;
  own.to = peer_.from;
  greeting_ = greetingOf(own, Side::kCallee);
  const Digest proof = own_.key->mac(kCalleeProof, {theirs_, greeting_});
  Answer out;
  std::copy(greeting_.begin(), greeting_.end(), out.begin());
  std::copy(proof.begin(), proof.end(), out.begin() + kGreetingBytes);
  return out;
}

bool Callee::check(std::span<const std::byte, kProofBytes> proof) const {
  return equal(proof, own_.key->mac(kCallerProof, {theirs_, greeting_}));
}

LinkKeys Callee::linkKeys() const {
  return {keyOf(*own_.key, kCalleeKey, theirs_, greeting_), keyOf(*own_.key, kCallerKey, theirs_, greeting_)};
}

}  // namespace nc
