// Which group a store belongs to, and the keys under which its ranks meet.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "rendezvous/ancestry.h"
#include "transport/handshake.h"

namespace nc::rendezvous {

// The same on all ranks of one group; two groups that differ in name, job or generation never mix.
struct Identity {
  std::string groupName;
  std::string jobId;  // from the launcher or the cluster; empty where there is none
  uint32_t generation = 0;
  int size = 0;
  Ancestry ancestry;
};

// What rank 0 says of itself and its group.
struct Found {
  Identity identity;
  transport::GroupToken token{};
  std::string host;
  int64_t pid = 0;
  std::string verdict;  // empty while the group forms
};

// That of the group it comes from; a first generation's is its token's text.
std::string lineageOf(const Identity& identity, const transport::GroupToken& token);
std::string encodeIdentity(const Identity& identity, const transport::GroupToken& token);
// False if the text is no identity of this version.
bool decodeIdentity(const std::string& text, Found& found);
// "group 'dp' of job 'x' (4 ranks, pid 7 on host)"
std::string describe(const Found& found);

inline constexpr const char* kIdentityKey = "node-collectives/identity";
inline constexpr const char* kVerdictKey = "node-collectives/verdict";
inline constexpr const char* kReadyKey = "node-collectives/ready";      // how many ranks are
inline constexpr const char* kReadyPrefix = "node-collectives/ready/";  // and which
inline constexpr const char* kHeardPrefix = "node-collectives/heard/";  // came late, for the verdict
inline constexpr const char* kRankPrefix = "node-collectives/rank/";
inline constexpr const char* kRefusedPrefix = "node-collectives/refused/";
inline constexpr const char* kFormed =
    "formed";  // the verdict of a group that stands; any other text is a failure
inline constexpr const char* kLeft = "left";  // stands under a rank's key once it cannot come any more

inline std::string rankKey(int rank) {
  return std::string(kRankPrefix) + std::to_string(rank);
}
inline std::string readyKey(int rank) {
  return std::string(kReadyPrefix) + std::to_string(rank);
}
inline std::string heardKey(int rank) {
  return std::string(kHeardPrefix) + std::to_string(rank);
}

}  // namespace nc::rendezvous
