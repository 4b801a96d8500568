// Both sides of the handshake, the secret's and the links', against messages that were changed, cut, swapped
// or made up: nothing but the true messages proves anything, and nobody is proven who was not meant.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "core/challenge.h"
#include "transport/handshake.h"

using namespace nc;

namespace {

void require(bool ok) {
  if (!ok) std::abort();
}

const auto kSecret = std::make_shared<const SecretKey>("a secret of the fuzzer");
const auto kOther = std::make_shared<const SecretKey>("another secret of the fuzzer");

// What the other side sent, or something else in its place.
template <size_t N>
std::array<std::byte, N> onTheWay(const std::array<std::byte, N>& sent, FuzzedDataProvider& fuzz) {
  std::array<std::byte, N> out = sent;
  switch (fuzz.ConsumeIntegralInRange(0, 3)) {
    case 0:
      break;
    case 1:
      for (int i = fuzz.ConsumeIntegralInRange(1, 4); i > 0; --i) {
        out[fuzz.ConsumeIntegralInRange<size_t>(0, N - 1)] =
            static_cast<std::byte>(fuzz.ConsumeIntegral<uint8_t>());
      }
      break;
    case 2: {
      const size_t at = fuzz.ConsumeIntegralInRange<size_t>(0, N - 1);
      const auto bytes = fuzz.ConsumeBytes<uint8_t>(N - at);
      std::transform(bytes.begin(), bytes.end(), out.begin() + static_cast<ptrdiff_t>(at),
                     [](uint8_t b) { return static_cast<std::byte>(b); });
      break;
    }
    default:
      std::rotate(out.begin(),
                  out.begin() + static_cast<ptrdiff_t>(fuzz.ConsumeIntegralInRange<size_t>(0, N - 1)),
                  out.end());
  }
  return out;
}

Credentials draw(FuzzedDataProvider& fuzz) {
  Credentials out;
  out.key = fuzz.ConsumeBool() ? kSecret : kOther;
  out.claim.purpose = static_cast<Purpose>(fuzz.ConsumeIntegralInRange(1, 3));
  out.claim.from = fuzz.ConsumeIntegralInRange(-1, 3);
  out.claim.to = fuzz.ConsumeIntegralInRange(-1, 3);
  out.claim.scope = scopeOf("g", "", fuzz.ConsumeIntegralInRange<uint32_t>(0, 1));
  return out;
}

void challenge(FuzzedDataProvider& fuzz) {
  const Credentials calling = draw(fuzz);
  const Credentials listening =
      fuzz.ConsumeBool()
          ? Credentials{calling.key, {calling.claim.purpose, calling.claim.to, -1, calling.claim.scope}}
          : draw(fuzz);
  Caller caller(calling);
  Callee callee(listening);
  const Greeting greeting = onTheWay(caller.greeting(), fuzz);
  const auto answer = callee.answer(greeting);
  if (!answer) {
    require(greeting != caller.greeting() || calling.claim.purpose != listening.claim.purpose);
    return;
  }
  const bool sameKey = calling.key == listening.key;
  const bool greetingKept = greeting == caller.greeting();
  const Answer arrived = onTheWay(*answer, fuzz);
  const auto outcome = caller.check(arrived);
  const bool proven = outcome == Caller::Outcome::kProven;
  const bool meant =
      calling.claim.purpose == listening.claim.purpose && calling.claim.to == listening.claim.from;
  require(proven == (sameKey && greetingKept && arrived == *answer && meant));
  if (proven) require(caller.sameScope() == (calling.claim.scope == listening.claim.scope));
  const Proof proof = onTheWay(caller.proof(), fuzz);
  const bool answerKept = std::equal(answer->begin(), answer->begin() + kGreetingBytes, arrived.begin());
  const bool accepted = callee.check(proof);
  require(accepted == (sameKey && greetingKept && answerKept && proof == caller.proof() &&
                       outcome != Caller::Outcome::kNotThis));
  if (accepted) require(callee.peer() == calling.claim);
  if (accepted && proven) {
    require(caller.linkKeys().out.tag(greeting) == callee.linkKeys().in.tag(greeting));
    require(caller.linkKeys().in.tag(greeting) == callee.linkKeys().out.tag(greeting));
  }
}

void prefixes(FuzzedDataProvider& fuzz) {
  const auto bytes = fuzz.ConsumeBytes<uint8_t>(200);
  const auto view = std::as_bytes(std::span(bytes));
  bool like = true;
  for (size_t n = 0; n <= view.size(); ++n) {
    const bool now = startsLikeGreeting(view.first(n));
    require(like || !now);  // what was found out stays so
    like = now;
    require(!(now && n > 2 && startsLikeRefusal(view.first(n))));
    if (decodeRefusal(view.first(n))) require(n >= kRefusalBytes && startsLikeRefusal(view.first(n)));
  }
}

void hello(FuzzedDataProvider& fuzz) {
  transport::Hello sent;
  for (std::byte& b : sent.token) b = static_cast<std::byte>(fuzz.ConsumeIntegral<uint8_t>());
  sent.generation = fuzz.ConsumeIntegral<uint32_t>();
  sent.from = fuzz.ConsumeIntegral<int32_t>();
  sent.to = fuzz.ConsumeIntegral<int32_t>();
  sent.size = fuzz.ConsumeIntegral<int32_t>();
  sent.reply = fuzz.ConsumeBool();
  const auto bytes = transport::encode(sent);
  require(transport::decodeHello(bytes) == sent);
  const auto arrived = onTheWay(bytes, fuzz);
  const auto read = transport::decodeHello(arrived);
  // Every byte means something: what is taken for a hello is written the same way again.
  if (read) require(transport::encode(*read) == arrived);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider fuzz(data, size);
  switch (fuzz.ConsumeIntegralInRange(0, 3)) {
    case 0:
      prefixes(fuzz);
      break;
    case 1:
      hello(fuzz);
      break;
    default:
      challenge(fuzz);
  }
  return 0;
}
