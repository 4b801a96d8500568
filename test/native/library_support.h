// The libraries that the tests load (test/native/libraries/), and environment variables for a while.
#pragma once

#include <doctest/doctest.h>
#include <stdlib.h>

#include <optional>
#include <string>

#include "core/error.h"

namespace nc::nccl::test {

// NC_TEST_LIBRARIES: the folder CMake builds them in.
inline std::string libraryPath(const std::string& name) {
  return std::string(NC_TEST_LIBRARIES) + "/" + name + ".so";
}

class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* const before = ::getenv(name)) before_ = before;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() {
    if (before_) {
      ::setenv(name_, before_->c_str(), 1);
    } else {
      ::unsetenv(name_);
    }
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

template <typename Body>
std::optional<Error> errorOf(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

inline bool says(const std::optional<Error>& error, const std::string& text) {
  REQUIRE(error);
  const bool found = std::string(error->what()).find(text) != std::string::npos;
  if (!found) MESSAGE("the message was: " << error->what());
  return found;
}

}  // namespace nc::nccl::test
