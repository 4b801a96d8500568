#include "rendezvous/verdict.h"

#include <cstddef>
#include <span>
#include <vector>

#include "rendezvous/identity.h"
#include "transport/failure.h"

namespace nc::rendezvous {

std::string encodeVerdict(const Error& cause) {
  const std::vector<std::byte> body = transport::encodeFailure(cause);
  return {reinterpret_cast<const char*>(body.data()), body.size()};
}

std::string tellVerdict(store::Client& client, int rank, const Error& cause, const Deadline& limit,
                        Cancel* cancel) {
  std::string standing = client.compareSet(kVerdictKey, "", encodeVerdict(cause), limit, cancel);
  client.set(heardKey(rank), "1", limit, cancel);
  return standing;
}

Error verdictError(const std::string& verdict, int rank) {
  Error cause = transport::decodeFailure(std::as_bytes(std::span(verdict.data(), verdict.size())), 0);
  cause.facts.consequence = cause.facts.detectedBy != rank;
  cause.facts.rank = rank;
  return cause;
}

}  // namespace nc::rendezvous
