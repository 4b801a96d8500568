#include "store/table.h"

#include <algorithm>
#include <utility>

#include "store/wire.h"

namespace nc::store {

std::string& Table::slot(std::string_view key, bool& isNew) {
  auto found = values_.find(key);
  isNew = found == values_.end();
  if (isNew) found = values_.emplace(std::string(key), std::string()).first;
  return found->second;
}

void Table::set(std::string_view key, std::string_view value) {
  const std::lock_guard lock(mutex_);
  bool isNew = false;
  slot(key, isNew) = value;
  if (isNew) made(key);
}

std::optional<std::string> Table::get(std::string_view key) const {
  const std::lock_guard lock(mutex_);
  const auto found = values_.find(key);
  if (found == values_.end()) return std::nullopt;
  return found->second;
}

std::optional<int64_t> Table::add(std::string_view key, int64_t amount) {
  const std::lock_guard lock(mutex_);
  int64_t sum = 0;
  const auto found = values_.find(key);
  if (found != values_.end() && !parseCounter(found->second, sum)) return std::nullopt;
  if (__builtin_add_overflow(sum, amount, &sum)) return std::nullopt;
  bool isNew = false;
  slot(key, isNew) = std::to_string(sum);
  if (isNew) made(key);
  return sum;
}

bool Table::append(std::string_view key, std::string_view bytes) {
  const std::lock_guard lock(mutex_);
  bool isNew = false;
  std::string& value = slot(key, isNew);
  if (value.size() + bytes.size() > kMaxValue) return false;  // a new key takes any value of legal length
  value.append(bytes);
  if (isNew) made(key);
  return true;
}

Table::Exchange Table::compareSet(std::string_view key, std::string_view expected, std::string_view desired) {
  const std::lock_guard lock(mutex_);
  const auto found = values_.find(key);
  if (found == values_.end()) {
    if (!expected.empty()) return {false, std::string(expected)};
    bool isNew = false;
    slot(key, isNew) = desired;
    made(key);
    return {true, std::string(desired)};
  }
  if (found->second != expected) return {false, found->second};
  found->second = desired;
  return {true, std::string(desired)};
}

bool Table::deleteKey(std::string_view key) {
  const std::lock_guard lock(mutex_);
  const auto found = values_.find(key);
  if (found == values_.end()) return false;
  values_.erase(found);
  return true;
}

bool Table::check(const std::vector<std::string>& keys) const {
  const std::lock_guard lock(mutex_);
  return std::all_of(keys.begin(), keys.end(),
                     [this](const std::string& key) { return values_.find(key) != values_.end(); });
}

size_t Table::size() const {
  const std::lock_guard lock(mutex_);
  return values_.size();
}

bool Table::appendBlobs(const std::vector<std::string>& keys, uint64_t limit, std::string& out) const {
  const std::lock_guard lock(mutex_);
  uint64_t bytes = 0;
  for (const std::string& key : keys) {
    const auto found = values_.find(key);
    bytes += sizeof(uint64_t) + (found == values_.end() ? 0 : found->second.size());
    if (bytes > limit) return false;
  }
  for (const std::string& key : keys) {
    const auto found = values_.find(key);
    putString(out, found == values_.end() ? std::string_view() : std::string_view(found->second));
  }
  return true;
}

bool Table::wait(WaiterId id, const std::vector<std::string>& keys) {
  const std::lock_guard lock(mutex_);
  Wait wait{};
  for (const std::string& key : keys) {
    if (values_.find(key) != values_.end()) continue;
    ++wait.missing;
    // A key listed twice counts twice and, being in the list twice, is counted down twice at one blow.
    waitersOf_[key].push_back(id);
    wait.keys.push_back(key);
  }
  if (wait.missing == 0) return true;
  waits_.insert_or_assign(id, std::move(wait));
  return false;
}

void Table::made(std::string_view key) {
  const auto found = waitersOf_.find(key);
  if (found == waitersOf_.end()) return;
  const std::vector<WaiterId> ids = std::move(found->second);
  waitersOf_.erase(found);
  for (const WaiterId id : ids) {
    const auto wait = waits_.find(id);
    if (wait == waits_.end() || --wait->second.missing > 0) continue;
    waits_.erase(wait);
    woken_.push_back(id);
  }
}

std::vector<Table::WaiterId> Table::takeWoken() {
  const std::lock_guard lock(mutex_);
  return std::exchange(woken_, {});
}

std::vector<Table::WaiterId> Table::forget(WaiterId id) {
  const std::lock_guard lock(mutex_);
  if (const auto found = waits_.find(id); found != waits_.end()) {
    std::vector<std::string> keys = std::move(found->second.keys);
    waits_.erase(found);
    // Each key once: a list that names one key 100,000 times must not scan its waiters as often.
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    for (const std::string& key : keys) {
      const auto waiters = waitersOf_.find(key);
      if (waiters == waitersOf_.end()) continue;
      std::erase(waiters->second, id);
      if (waiters->second.empty()) waitersOf_.erase(waiters);
    }
  }
  return std::exchange(woken_, {});
}

bool Table::anyWoken() const {
  const std::lock_guard lock(mutex_);
  return !woken_.empty();
}

}  // namespace nc::store
