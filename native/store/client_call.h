// What a client call is about, for its errors, and what may end it. Private to client*.cpp.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "store/client.h"
#include "store/wire.h"

namespace nc::store {

struct Client::Call {
  const char* op;
  std::string_view key;
  const std::vector<std::string>* keys;
  const Deadline& deadline;
  Cancel* cancel;

  // "store.get of key 'x'"
  std::string text() const {
    if (keys == nullptr) return key.data() ? std::string(op) + " of key " + quoted(key) : std::string(op);
    std::string out = std::string(op) + " of keys";
    for (size_t i = 0; i < std::min<size_t>(keys->size(), 4); ++i) out += " " + quoted((*keys)[i]);
    return keys->size() > 4 ? out + " and " + std::to_string(keys->size() - 4) + " more" : out;
  }
};

}  // namespace nc::store
