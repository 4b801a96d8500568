// What differs between the Gloo versions we compile against, and nothing else:
//   Debian 12   2022-05-18   the oldest
//   Debian 13   2023         nothing that matters here has changed
//   upstream                 Pair::isConnected() became a pure virtual in 2024
// Found out from the headers themselves: Gloo's version numbers have not changed since 2018. Virtuals that
// came with a body (remote keys, put and get, createAndConnectAllPairs) need nothing here.
#pragma once

#include <gloo/transport/pair.h>

namespace nc::gloo {

template <typename Base>
concept HasIsConnected = requires(Base& pair) {
  pair.isConnected();
};

// `override` cannot be conditional, so the class that has it is.
template <typename Base>
class PairCompat : public Base {};

template <HasIsConnected Base>
class PairCompat<Base> : public Base {
 public:
  bool isConnected() override { return true; }
};

using PairBase = PairCompat<::gloo::transport::Pair>;

}  // namespace nc::gloo
