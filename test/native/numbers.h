// Numbers for tests that compare with a plain computation.
#pragma once

#include <cstddef>
#include <cstring>

namespace nc::test {

__extension__ using Wide = __int128;

template <typename T>
Wide widen(T value) {
  return value;  // NOLINT(bugprone-signed-char-misuse): an int8 is a number here
}

inline bool sameBytes(const void* a, const void* b, size_t bytes) {
  return bytes == 0 || std::memcmp(a, b, bytes) == 0;
}

}  // namespace nc::test
