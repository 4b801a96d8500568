// What ranks read of each other in the store, and in failure frames: any text is taken or refused, and what
// was written is read as it was.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "rendezvous/ancestry.h"
#include "rendezvous/identity.h"
#include "rendezvous/member.h"
#include "rendezvous/record.h"
#include "rendezvous/verdict.h"
#include "transport/failure.h"

using namespace nc;
using namespace nc::rendezvous;

namespace {

void require(bool ok) {
  if (!ok) std::abort();
}

// Texts go into messages and logs: their control characters do not travel.
std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return text;
}

void anything(FuzzedDataProvider& fuzz) {
  const int rank = fuzz.ConsumeIntegralInRange(0, 7);
  const std::string text = fuzz.ConsumeRemainingBytesAsString();
  // A record that was read and written is read as the same.
  const std::string once = Record::parse(text).text();
  require(Record::parse(once).text() == once);
  (void)compare(decodeAncestry(Record::parse(text)), {});
  Found found;
  if (decodeIdentity(text, found)) require(!describe(found).empty());
  require(std::string(verdictError(text, rank).what()) != "");
  try {
    require(!who(decodeMember(rank, text)).empty());
  } catch (const Error& error) {
    require(error.code == ErrorCode::kProtocol || error.code == ErrorCode::kGroupMismatch ||
            error.code == ErrorCode::kRendezvous);
  }
  const auto bytes = std::as_bytes(std::span(text));
  const Error failure = transport::decodeFailure(bytes, rank);
  require(failure.facts.consequence && failure.facts.detectedBy >= 0 && *failure.what() != '\0');
}

ErrorFacts draw(FuzzedDataProvider& fuzz) {
  ErrorFacts facts;
  facts.rank = fuzz.ConsumeIntegralInRange(-1, 9);
  facts.detectedBy = fuzz.ConsumeIntegralInRange(0, 9);
  facts.peer = fuzz.ConsumeIntegralInRange(-1, 9);
  facts.peerPid = fuzz.ConsumeIntegralInRange<int64_t>(0, 1 << 22);
  facts.peerHost = fuzz.ConsumeRandomLengthString(30);
  facts.op = fuzz.ConsumeRandomLengthString(20);
  facts.seq = fuzz.ConsumeIntegralInRange<int64_t>(-1, 1 << 20);
  facts.address = fuzz.ConsumeRandomLengthString(30);
  for (int i = fuzz.ConsumeIntegralInRange(0, 5); i > 0; --i)
    facts.missing.push_back(fuzz.ConsumeIntegralInRange(0, 9));
  return facts;
}

void told(FuzzedDataProvider& fuzz) {
  const auto code =
      static_cast<ErrorCode>(fuzz.ConsumeIntegralInRange<int>(0, static_cast<int>(ErrorCode::kInternal)));
  const ErrorFacts facts = draw(fuzz);
  const Error sent(code, "t" + fuzz.ConsumeRandomLengthString(200), facts);
  const Error read = transport::decodeFailure(transport::encodeFailure(sent), 3);
  require(read.code == code && read.facts.rank == facts.rank && read.facts.peer == facts.peer);
  require(read.facts.detectedBy == facts.detectedBy && read.facts.consequence);
  require(read.facts.peerPid == facts.peerPid && read.facts.seq == facts.seq);
  require(read.facts.peerHost == printable(facts.peerHost) && read.facts.op == printable(facts.op));
  require(read.facts.missing == facts.missing);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider fuzz(data, size);
  if (fuzz.ConsumeBool()) {
    anything(fuzz);
  } else {
    told(fuzz);
  }
  return 0;
}
