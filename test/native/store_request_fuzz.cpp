// libFuzzer: the request parser must give the same requests however its input is cut, and stay in its bounds.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "store/wire.h"

using nc::store::kMaxRequest;
using nc::store::Request;
using nc::store::RequestParser;

namespace {

void note(std::string& log, const Request& r) {
  nc::store::putOp(log, r.op);
  nc::store::putString(log, r.key);
  nc::store::putString(log, r.value);
  nc::store::putString(log, r.desired);
  nc::store::putI64(log, r.amount);
  nc::store::putU32(log, r.number);
  for (const auto& key : r.keys) nc::store::putString(log, key);
  for (const auto& value : r.values) nc::store::putString(log, value);
}

std::string run(const std::vector<uint8_t>& stream, uint32_t cuts) {
  RequestParser parser;
  std::string log;
  size_t at = 0;
  while (at < stream.size()) {
    size_t step = stream.size() - at;
    if (cuts != 0) {
      cuts = cuts * 1664525 + 1013904223;
      step = std::min<size_t>(step, 1 + (cuts >> 24) % 11);
    }
    std::span<const uint8_t> input(stream.data() + at, step);
    at += step;
    RequestParser::Status status;
    while ((status = parser.next(input)) == RequestParser::Status::kRequest) note(log, parser.request());
    if (parser.held() > kMaxRequest) std::abort();
    if (status == RequestParser::Status::kBad) {
      log += "bad";
      break;
    }
    if (!input.empty()) std::abort();
  }
  return log;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 5) return 0;
  // Half of the inputs start behind a good VALIDATE, else the fuzzer would spend its time on finding the
  // magic.
  std::vector<uint8_t> stream;
  if (data[0] & 1) stream = {0x00, 0xCE, 0xF7, 0x85, 0x3C};
  uint32_t cuts = data[1] | (data[2] << 8) | 0x10000U;
  stream.insert(stream.end(), data + 3, data + size);
  if (run(stream, 0) != run(stream, cuts)) std::abort();
  return 0;
}
