// What ranks publish in the store: lines of "name=value". Values may hold any bytes but are escaped, so that
// a record can be read by a person with any store client.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace nc::rendezvous {

class Record {
 public:
  Record() = default;
  // Lines that cannot be read are left out: a record comes from the network.
  static Record parse(std::string_view text);
  std::string text() const;

  Record& set(const std::string& name, std::string value);
  Record& set(const std::string& name, int64_t value) { return set(name, std::to_string(value)); }
  // Empty, or `otherwise`, where the name is missing or no number.
  std::string get(const std::string& name) const;
  int64_t number(const std::string& name, int64_t otherwise) const;
  const std::map<std::string, std::string>& values() const { return values_; }

 private:
  std::map<std::string, std::string> values_;
};

}  // namespace nc::rendezvous
