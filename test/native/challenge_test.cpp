#include "core/challenge.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "core/error.h"

using namespace nc;

namespace {

std::shared_ptr<const SecretKey> keyOf(const std::string& secret) {
  return std::make_shared<const SecretKey>(secret);
}

const auto kKey = keyOf("a secret of the tests");
const auto kOther = keyOf("another secret of the tests");

Credentials caller(int from = 1, int to = 3, std::shared_ptr<const SecretKey> key = kKey,
                   Purpose purpose = Purpose::kLink, uint32_t generation = 7) {
  return {std::move(key), {purpose, from, to, scopeOf("g", "job", generation)}};
}

Credentials callee(int rank = 3, std::shared_ptr<const SecretKey> key = kKey,
                   Purpose purpose = Purpose::kLink, uint32_t generation = 7) {
  return {std::move(key), {purpose, rank, -1, scopeOf("g", "job", generation)}};
}

std::string hex(std::span<const std::byte> bytes) {
  std::string out;
  for (const std::byte b : bytes) {
    out += "0123456789abcdef"[std::to_integer<unsigned>(b) >> 4];
    out += "0123456789abcdef"[std::to_integer<unsigned>(b) & 15];
  }
  return out;
}

}  // namespace

TEST_CASE("two sides with one secret prove it, and get the same keys, one for each direction") {
  Caller one(caller());
  Callee two(callee());
  const auto answer = two.answer(one.greeting());
  REQUIRE(answer);
  CHECK(two.peer() == caller().claim);
  CHECK(one.check(*answer) == Caller::Outcome::kProven);
  CHECK(one.sameScope());
  CHECK(two.sameScope());
  CHECK(two.check(one.proof()));
  const std::array<std::byte, 56> header{};
  CHECK(one.linkKeys().out.tag(header) == two.linkKeys().in.tag(header));
  CHECK(one.linkKeys().in.tag(header) == two.linkKeys().out.tag(header));
  CHECK(one.linkKeys().in.tag(header) != one.linkKeys().out.tag(header));
}

TEST_CASE("another secret, or a short one, is found on each side") {
  Caller one(caller(1, 3, kOther));
  Callee two(callee());
  const auto answer = two.answer(one.greeting());
  REQUIRE(answer);
  CHECK(one.check(*answer) == Caller::Outcome::kUnproven);
  CHECK_FALSE(two.check(one.proof()));
  CHECK_FALSE(two.check(Proof{}));
  for (size_t n = 0; n < kMinSecretBytes; ++n) {
    try {
      const SecretKey key(std::string(n, 'x'));
      FAIL("taken");
    } catch (const Error& error) {
      CHECK(error.code == ErrorCode::kInvalidArgument);
      CHECK(std::string(error.what()).find("xxx") == std::string::npos);
    }
  }
  CHECK_NOTHROW(SecretKey(std::string(kMinSecretBytes, 'x')));
}

TEST_CASE("one changed bit anywhere in any message, and nothing is proven") {
  for (size_t bit = 0; bit < kGreetingBytes * 8; ++bit) {
    CAPTURE(bit);
    Caller one(caller());
    Callee two(callee());
    Greeting greeting = one.greeting();
    greeting[bit / 8] ^= std::byte{1} << (bit % 8);
    const auto answer = two.answer(greeting);
    if (!answer) continue;
    CHECK(one.check(*answer) != Caller::Outcome::kProven);
    CHECK_FALSE(two.check(one.proof()));
  }
  for (size_t bit = 0; bit < kAnswerBytes * 8; ++bit) {
    CAPTURE(bit);
    Caller one(caller());
    Callee two(callee());
    Answer answer = *two.answer(one.greeting());
    answer[bit / 8] ^= std::byte{1} << (bit % 8);
    CHECK(one.check(answer) != Caller::Outcome::kProven);
    // Also a caller who does not mind has proven nothing, but where only the other's proof was changed.
    if (bit < kGreetingBytes * 8) CHECK_FALSE(two.check(one.proof()));
  }
  Caller one(caller());
  Callee two(callee());
  REQUIRE(one.check(*two.answer(one.greeting())) == Caller::Outcome::kProven);
  for (size_t bit = 0; bit < kProofBytes * 8; ++bit) {
    Proof proof = one.proof();
    proof[bit / 8] ^= std::byte{1} << (bit % 8);
    CHECK_FALSE(two.check(proof));
  }
}

TEST_CASE("a recorded handshake proves nothing to anybody else") {
  Caller one(caller());
  Callee two(callee());
  const Greeting greeting = one.greeting();
  const Answer answer = *two.answer(greeting);
  REQUIRE(one.check(answer) == Caller::Outcome::kProven);
  const Proof proof = one.proof();
  REQUIRE(two.check(proof));
  // To the same listener again.
  Callee again(callee());
  REQUIRE(again.answer(greeting));
  CHECK_FALSE(again.check(proof));
  // To another caller.
  Caller later(caller());
  CHECK(later.check(answer) == Caller::Outcome::kUnproven);
  CHECK_FALSE(two.check(Proof{}));
}

TEST_CASE("what a side says is no answer to itself") {
  // A greeting handed back; and a process that is both caller and listener made to talk to itself.
  Caller one(caller(3, 3));
  Answer mirrored{};
  std::copy(one.greeting().begin(), one.greeting().end(), mirrored.begin());
  CHECK(one.check(mirrored) == Caller::Outcome::kNotThis);
  Callee two(callee(3));
  const auto answer = two.answer(one.greeting());
  REQUIRE(answer);
  // The listener's own proof is not the caller's.
  Proof reflected;
  std::copy(answer->end() - kProofBytes, answer->end(), reflected.begin());
  CHECK_FALSE(two.check(reflected));
  CHECK_FALSE(two.answer(std::span(*answer).first<kGreetingBytes>()).has_value());
}

TEST_CASE("a handshake for one purpose, group, generation or pair of ranks is none for another") {
  const auto outcome = [](const Credentials& calling, const Credentials& listening) {
    Caller one(calling);
    Callee two(listening);
    const auto answer = two.answer(one.greeting());
    return answer ? one.check(*answer) : Caller::Outcome::kNotThis;
  };
  CHECK(outcome(caller(), callee()) == Caller::Outcome::kProven);
  // The link that was asked for rank 3 is answered by rank 2.
  CHECK(outcome(caller(1, 3), callee(2)) == Caller::Outcome::kUnproven);
  CHECK(outcome(caller(0, 0, kKey, Purpose::kGroupStore), callee(0)) == Caller::Outcome::kNotThis);
  CHECK(outcome(caller(1, -1, kKey, Purpose::kStore), callee(-1, kKey, Purpose::kGroupStore)) ==
        Caller::Outcome::kNotThis);

  Caller one(caller(1, 3, kKey, Purpose::kLink, 7));
  Callee two(callee(3, kKey, Purpose::kLink, 8));
  const auto answer = two.answer(one.greeting());
  REQUIRE(answer);
  CHECK(one.check(*answer) == Caller::Outcome::kProven);
  CHECK_FALSE(one.sameScope());
  CHECK_FALSE(two.sameScope());

  CHECK(scopeOf("g", "job", 7) != scopeOf("g", "job", 8));
  CHECK(scopeOf("g", "job", 7) != scopeOf("gj", "ob", 7));
  CHECK(scopeOf("", "gjob", 7) != scopeOf("gjob", "", 7));
}

TEST_CASE("the first wrong byte is enough, and refusals are told apart from answers") {
  Caller one(caller());
  const Greeting& greeting = one.greeting();
  for (size_t n = 0; n <= greeting.size(); ++n) CHECK(startsLikeGreeting(std::span(greeting).first(n)));
  for (size_t n = 0; n < 8; ++n) {
    Greeting wrong = greeting;
    wrong[n] ^= std::byte{1};
    CHECK(startsLikeGreeting(std::span(wrong).first(n)));
    CHECK_FALSE(startsLikeGreeting(std::span(wrong).first(n + 1)));
    CHECK_FALSE(Callee(callee()).answer(wrong).has_value());
  }
  for (const Refusal why : {Refusal::kSecretNeeded, Refusal::kNoSecretHere}) {
    const auto bytes = refusalBytes(why);
    CHECK(decodeRefusal(bytes) == why);
    CHECK_FALSE(startsLikeGreeting(bytes));
    CHECK_FALSE(decodeRefusal(std::span(bytes).first(7)));
  }
  CHECK_FALSE(decodeRefusal(greeting));
  CHECK(startsLikeGreeting({}));
}

// Python: hmac.new(b"a secret of the tests", b"node-collectives secret 1", "sha256") is the key;
// hmac.new(key, b"\x01x" + bytes(range(4)), "sha256") the MAC; hashlib.sha256 of each part behind its length
// as eight bytes, least first, the scope.
TEST_CASE("the cryptography is what it says it is") {
  const std::array<std::byte, 4> part{std::byte{0}, std::byte{1}, std::byte{2}, std::byte{3}};
  CHECK(hex(kKey->mac("x", {part})) == "99dc8c8d5f665347ac7f893df91b8076f63730967a1de28dee48ba7a2dbcc7af");
  CHECK(hex(scopeOf("g", "job", 7)) == "708972015af3c750f46e1464ff135fee4cabbbca5aa4b1efe3f86f198cdab89e");
  CHECK(equal(kKey->mac("x", {part}), kKey->mac("x", {part})));
  CHECK_FALSE(equal(kKey->mac("x", {part}), kKey->mac("y", {part})));
}
