#include "nccl/driver_text.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <iterator>
#include <string_view>
#include <system_error>

namespace nc::nccl {

std::string busIdText(const char* answer) {
  std::string text(answer);
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  return text;
}

std::string uuidText(const char (&bytes)[16]) {
  if (std::all_of(std::begin(bytes), std::end(bytes), [](char byte) { return byte == 0; })) return {};
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (size_t i = 0; i < sizeof(bytes); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    const auto byte = static_cast<unsigned char>(bytes[i]);
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

std::string addressText(uintptr_t address) {
  char digits[2 * sizeof(address)];
  const auto [end, error] = std::to_chars(std::begin(digits), std::end(digits), address, 16);
  return error == std::errc() ? "0x" + std::string(digits, end) : std::to_string(address);
}

std::string settingsText(std::initializer_list<const char*> variables) {
  std::string out;
  for (const char* const variable : variables) {
    const char* const value = std::getenv(variable);
    if (value == nullptr) continue;
    out += (out.empty() ? " (" : ", ") + std::string(variable) + "=" + (*value != '\0' ? value : "\"\"");
  }
  return out.empty() ? out : out + ")";
}

}  // namespace nc::nccl
