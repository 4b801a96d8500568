// ncclConfig_t for the version that was loaded.
#pragma once

#include "nccl/nccl_abi.h"

namespace nc::nccl {

// How many bytes of our declaration that version's structure has. A newer one than we know gets all we know:
// its library takes its own defaults for the rest.
constexpr size_t configBytes(int version) {
  using abi::Config;
  if (version < 21700) return offsetof(Config, cgaClusterSize) + sizeof(int);  // and padding
  if (version < 21800) return offsetof(Config, splitShare);
  if (version < 22700) return offsetof(Config, commName);
  if (version < 22800) return offsetof(Config, nChannelsPerNetPeer);
  if (version < 22900) return offsetof(Config, graphUsageMode);
  if (version < 23000) return offsetof(Config, maxP2pPeers);
  return sizeof(Config);
}

// Everything undefined but `blocking`.
constexpr abi::Config makeConfig(int version, bool blocking) {
  constexpr int kNewestKnown = 23005;
  abi::Config config;
  config.size = configBytes(version);
  config.version = version < kNewestKnown ? version : kNewestKnown;
  config.blocking = blocking ? 1 : 0;
  return config;
}

}  // namespace nc::nccl
