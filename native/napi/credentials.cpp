#include "napi/credentials.h"

#include <string>

namespace nc::napi {

namespace {

// JavaScript's own text cannot be wiped; the copy made of it is.
struct Wiped {
  std::string text;
  ~Wiped() { wipe(text); }
};

}  // namespace

std::shared_ptr<const SecretKey> readSecret(Napi::Value text) {
  const Wiped secret{text.As<Napi::String>().Utf8Value()};
  if (secret.text.empty()) return nullptr;
  return std::make_shared<const SecretKey>(secret.text);
}

}  // namespace nc::napi
