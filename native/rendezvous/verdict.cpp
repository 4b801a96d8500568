#include "rendezvous/verdict.h"

#include <cstddef>
#include <span>
#include <vector>

#include "transport/failure.h"

namespace nc::rendezvous {

std::string encodeVerdict(const Error& cause) {
  const std::vector<std::byte> body = transport::encodeFailure(cause);
  return {reinterpret_cast<const char*>(body.data()), body.size()};
}

Error verdictError(const std::string& verdict, int rank) {
  Error cause = transport::decodeFailure(std::as_bytes(std::span(verdict.data(), verdict.size())), 0);
  cause.facts.consequence = cause.facts.detectedBy != rank;
  cause.facts.rank = rank;
  return cause;
}

}  // namespace nc::rendezvous
