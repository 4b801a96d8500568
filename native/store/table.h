// The keys of a store and who waits for them. Knows nothing of sockets: a waiter is a number, and those whose
// wait was fulfilled are handed out by takeWoken()/forget() for somebody else to answer.
//
// Any thread may call any method; none waits for anything but the table's own mutex.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nc::store {

class Table {
 public:
  using WaiterId = uint64_t;

  void set(std::string_view key, std::string_view value);
  std::optional<std::string> get(std::string_view key) const;
  // Nothing if the value there is not a decimal int64, or the sum would be none.
  std::optional<int64_t> add(std::string_view key, int64_t amount);
  // False if the value would pass wire.h's kMaxValue; nothing is changed then.
  bool append(std::string_view key, std::string_view bytes);
  struct Exchange {
    bool done;
    std::string reply;
  };
  Exchange compareSet(std::string_view key, std::string_view expected, std::string_view desired);
  bool deleteKey(std::string_view key);
  bool check(const std::vector<std::string>& keys) const;
  size_t size() const;
  // Appends each value as a blob (an empty one for a missing key); false if they pass `limit` bytes.
  bool appendBlobs(const std::vector<std::string>& keys, uint64_t limit, std::string& out) const;

  // True if all keys are there. Otherwise `id` is woken once each key that is missing now has been made; a
  // key that is deleted again meanwhile has still been counted. One wait for an id: forget() the last one
  // first.
  bool wait(WaiterId id, const std::vector<std::string>& keys);
  // Those whose wait was fulfilled since the last call.
  std::vector<WaiterId> takeWoken();
  // Drops the wait of `id`. Returns takeWoken() of the same moment, so that a wait is either dropped here or
  // among those returned (here or before), never both and never later.
  std::vector<WaiterId> forget(WaiterId id);
  bool anyWoken() const;

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  struct Wait {
    size_t missing;
    std::vector<std::string> keys;
  };
  template <typename Value>
  using Map = std::unordered_map<std::string, Value, Hash, std::equal_to<>>;

  void made(std::string_view key);
  std::string& slot(std::string_view key, bool& isNew);

  mutable std::mutex mutex_;
  Map<std::string> values_;
  Map<std::vector<WaiterId>> waitersOf_;
  std::unordered_map<WaiterId, Wait> waits_;
  std::vector<WaiterId> woken_;
};

}  // namespace nc::store
