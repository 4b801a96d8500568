#include "core/error.h"

#include <cerrno>
#include <cstring>

namespace nc {

const char* codeName(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case ErrorCode::kAddressInUse:
      return "EADDRINUSE";
    case ErrorCode::kAddressUnavailable:
      return "EADDRNOTAVAIL";
    case ErrorCode::kTimeout:
      return "TIMEOUT";
    case ErrorCode::kAborted:
      return "ABORTED";
    case ErrorCode::kClosed:
      return "CLOSED";
    case ErrorCode::kRankLost:
      return "RANK_LOST";
    case ErrorCode::kRankTaken:
      return "RANK_TAKEN";
    case ErrorCode::kGroupMismatch:
      return "GROUP_MISMATCH";
    case ErrorCode::kRendezvous:
      return "RENDEZVOUS_FAILED";
    case ErrorCode::kCollectiveMismatch:
      return "COLLECTIVE_MISMATCH";
    case ErrorCode::kAuthentication:
      return "AUTHENTICATION_FAILED";
    case ErrorCode::kProtocol:
      return "PROTOCOL";
    case ErrorCode::kNetwork:
      return "NETWORK";
    case ErrorCode::kResource:
      return "RESOURCE";
    case ErrorCode::kBackendUnavailable:
      return "BACKEND_UNAVAILABLE";
    case ErrorCode::kUnsupported:
      return "UNSUPPORTED";
    case ErrorCode::kDevice:
      return "DEVICE";
    case ErrorCode::kInternal:
      return "INTERNAL";
  }
  return "INTERNAL";
}

std::string errnoText(int errnum) {
  const char* const name = strerrorname_np(errnum);
  const char* const text = strerrordesc_np(errnum);
  if (name == nullptr || text == nullptr) return "errno " + std::to_string(errnum);
  return std::string(text) + " (" + name + ")";
}

Error systemError(const std::string& what, int errnum, const std::string& address) {
  ErrorFacts facts;
  facts.errnum = errnum;
  facts.address = address;
  const bool resource = errnum == EMFILE || errnum == ENFILE || errnum == ENOMEM || errnum == ENOBUFS;
  std::string text = what + ": " + errnoText(errnum);
  if (!address.empty()) text += " at " + address;
  return Error(resource ? ErrorCode::kResource : ErrorCode::kNetwork, text, std::move(facts));
}

}  // namespace nc
