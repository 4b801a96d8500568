// What went wrong, as data. An Error carries a stable code and facts; the classes that users see are made
// from it in TypeScript (src/errors.ts). Nothing in the project decides by looking at a message's text.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/operation.h"

namespace nc {

// Each code is one class in src/errors.ts; the names on both sides are the same.
enum class ErrorCode {
  kInvalidArgument,     // a caller's mistake, found before anything was sent
  kAddressInUse,        // every candidate port is taken
  kAddressUnavailable,  // the address given is none of this host's
  kTimeout,             // a deadline passed
  kAborted,             // abort(), an AbortSignal or the end of the environment
  kClosed,              // the group or store is closed on this side
  kRankLost,            // a rank's process or link ended
  kRankTaken,           // another process holds this rank's number
  kGroupMismatch,       // the group found differs from the one asked for
  kRendezvous,          // no store of this group was found, or forming it failed on some rank
  kCollectiveMismatch,  // ranks called different operations
  kAuthentication,      // a secret was not proven, or only one side has one
  kProtocol,            // the other side does not speak as agreed
  kNetwork,             // a socket call failed; `errnum` says how
  kResource,            // out of descriptors, memory or threads
  kBackendUnavailable,  // the backend asked for cannot be used here
  kUnsupported,         // the library that was loaded is too old or too small for what was asked
  kDevice,              // the GPU's driver or NCCL reported a failure
  kInternal,            // a defect of this library
};

// "INVALID_ARGUMENT", "EADDRINUSE", ...
const char* codeName(ErrorCode code) noexcept;

// What one rank called, where ranks called different operations.
struct RankCall {
  int rank = -1;
  Stamp stamp;
  uint64_t tag = 0;  // of a message

  bool operator==(const RankCall&) const = default;
};

// Facts beside the message. Unset numbers are -1 (or 0 for errnum and pid), unset texts empty.
struct ErrorFacts {
  int rank = -1;                // the rank that reports
  int detectedBy = -1;          // the rank that saw it itself: this one, or the one that told
  int peer = -1;                // the rank that caused it
  std::string peerHost;         // that rank's host name
  int64_t peerPid = 0;          // and process id
  std::string op;               // "allReduce", "store.get", ...
  int64_t seq = -1;             // number of the operation within its group
  int errnum = 0;               // errno
  std::string address;          // "127.0.0.1:29500"
  bool consequence = false;     // true where another rank saw the cause and told this one
  std::vector<int> missing;     // ranks that had not arrived
  std::vector<RankCall> calls;  // that differ, by rank; those of which the reporting rank knows
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode what, const std::string& message) : std::runtime_error(message), code(what) {}
  Error(ErrorCode what, const std::string& message, ErrorFacts more)
      : std::runtime_error(message), code(what), facts(std::move(more)) {}

  ErrorCode code;
  ErrorFacts facts;
};

// "Connection refused (ECONNREFUSED)"; the number where the C library knows no name.
std::string errnoText(int errnum);

// kNetwork (or kResource for EMFILE, ENFILE, ENOMEM) with "what: strerror (ENAME)".
Error systemError(const std::string& what, int errnum, const std::string& address = {});

}  // namespace nc
