#include "rendezvous/record.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace nc::rendezvous {

namespace {

std::string escape(std::string_view value) {
  std::string out;
  for (const char c : value) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

std::string unescape(std::string_view value) {
  std::string out;
  for (size_t i = 0; i < value.size(); ++i) {
    if (value[i] == '\\' && i + 1 < value.size()) {
      ++i;
      out += value[i] == 'n' ? '\n' : value[i];
    } else {
      out += value[i];
    }
  }
  return out;
}

}  // namespace

Record Record::parse(std::string_view text) {
  Record record;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos || equals == 0) continue;
    record.values_[std::string(line.substr(0, equals))] = unescape(line.substr(equals + 1));
  }
  return record;
}

std::string Record::text() const {
  std::string out;
  for (const auto& [name, value] : values_) out += name + "=" + escape(value) + "\n";
  return out;
}

Record& Record::set(const std::string& name, std::string value) {
  values_[name] = std::move(value);
  return *this;
}

std::string Record::get(const std::string& name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::string() : found->second;
}

int64_t Record::number(const std::string& name, int64_t otherwise) const {
  const std::string text = get(name);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty() ? value : otherwise;
}

}  // namespace nc::rendezvous
