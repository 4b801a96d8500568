#include "transport/failure.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

#include "transport/frame.h"

namespace nc::transport {

namespace {

constexpr size_t kMaxText = 1500;
constexpr size_t kMaxMissing = 256;
constexpr size_t kMaxCalls = 2;  // a mismatch is between two ranks

// At most kMaxText bytes of UTF-8, and no half character at the end.
std::string shortened(const std::string& text) {
  if (text.size() <= kMaxText) return text;
  size_t end = kMaxText;
  const auto continues = [&](size_t at) { return (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80; };
  while (end > 0 && continues(end)) --end;
  return text.substr(0, end);
}

class Writer {
 public:
  template <typename T>
  void number(T value) {
    const auto* at = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), at, at + sizeof(value));
  }
  void text(const std::string& value) {
    const std::string cut = shortened(value);
    number(static_cast<uint16_t>(cut.size()));
    const auto* at = reinterpret_cast<const std::byte*>(cut.data());
    bytes.insert(bytes.end(), at, at + cut.size());
  }
  std::vector<std::byte> bytes;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> in) : in_(in) {}
  template <typename T>
  T number(T otherwise = {}) {
    if (in_.size() < sizeof(T)) {
      in_ = {};
      short_ = true;
      return otherwise;
    }
    T value{};
    std::memcpy(&value, in_.data(), sizeof(T));
    in_ = in_.subspan(sizeof(T));
    return value;
  }
  std::string text() {
    const size_t claimed = number<uint16_t>();  // first: it shortens in_
    const size_t n = std::min(claimed, in_.size());
    std::string value(reinterpret_cast<const char*>(in_.data()), n);
    in_ = in_.subspan(n);
    // These go into messages and logs: no line breaks, no terminal's control codes, no early end.
    std::replace_if(
        value.begin(), value.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
    return value;
  }

  // There was less than was asked for.
  bool ranShort() const { return short_; }

 private:
  std::span<const std::byte> in_;
  bool short_ = false;
};

void write(Writer& out, const RankCall& call) {
  out.number(static_cast<int32_t>(call.rank));
  out.number(static_cast<uint8_t>(call.stamp.kind));
  out.number(static_cast<uint8_t>(call.stamp.dtype));
  out.number(static_cast<uint8_t>(call.stamp.reduceOp));
  out.number(static_cast<uint8_t>(call.stamp.device));
  out.number(call.stamp.root);
  out.number(call.stamp.seq);
  out.number(call.stamp.count);
  out.number(call.tag);
}

// Nothing where the body was cut, or names what this version does not know.
std::optional<RankCall> readCall(Reader& in) {
  RankCall call;
  call.rank = in.number<int32_t>(-1);
  const auto kind = in.number<uint8_t>();
  const auto dtype = in.number<uint8_t>();
  const auto reduceOp = in.number<uint8_t>();
  call.stamp.device = in.number<uint8_t>() != 0;
  call.stamp.root = in.number<int32_t>(-1);
  call.stamp.seq = in.number<uint64_t>();
  call.stamp.count = in.number<uint64_t>();
  call.tag = in.number<uint64_t>();
  const auto upTo = [](uint8_t value, auto last) { return value > 0 && value <= static_cast<uint8_t>(last); };
  if (in.ranShort() || call.rank < 0 || call.stamp.seq == 0 || !upTo(kind, kLastOpKind) ||
      !upTo(dtype, kLastDType) || reduceOp > static_cast<uint8_t>(ReduceOp::kBxor)) {
    return std::nullopt;
  }
  call.stamp.kind = static_cast<OpKind>(kind);
  call.stamp.dtype = static_cast<DType>(dtype);
  call.stamp.reduceOp = static_cast<ReduceOp>(reduceOp);
  return call;
}

}  // namespace

std::vector<std::byte> encodeFailure(const Error& cause) {
  Writer out;
  out.number(static_cast<uint8_t>(cause.code));
  out.number(static_cast<int32_t>(cause.facts.rank));
  out.number(static_cast<int32_t>(cause.facts.detectedBy));
  out.number(static_cast<int32_t>(cause.facts.peer));
  out.number(static_cast<int64_t>(cause.facts.peerPid));
  out.number(static_cast<int64_t>(cause.facts.seq));
  out.number(static_cast<int32_t>(cause.facts.errnum));
  out.text(cause.facts.peerHost);
  out.text(cause.facts.op);
  out.text(cause.facts.address);
  out.text(cause.what());
  const size_t missing = std::min(cause.facts.missing.size(), kMaxMissing);
  out.number(static_cast<uint16_t>(missing));
  for (size_t i = 0; i < missing; ++i) out.number(static_cast<int32_t>(cause.facts.missing[i]));
  const size_t calls = std::min(cause.facts.calls.size(), kMaxCalls);
  out.number(static_cast<uint8_t>(calls));
  for (size_t i = 0; i < calls; ++i) write(out, cause.facts.calls[i]);
  return std::move(out.bytes);
}

Error decodeFailure(std::span<const std::byte> body, int from) noexcept {
  Reader in(body);
  const auto code = in.number<uint8_t>();
  ErrorFacts facts;
  facts.rank = in.number<int32_t>(-1);
  facts.detectedBy = in.number<int32_t>(-1);
  facts.peer = in.number<int32_t>(-1);
  facts.peerPid = in.number<int64_t>();
  facts.seq = in.number<int64_t>(-1);
  facts.errnum = in.number<int32_t>();
  facts.peerHost = in.text();
  facts.op = in.text();
  facts.address = in.text();
  std::string text = in.text();
  const auto missing = in.number<uint16_t>();
  for (size_t i = 0; i < std::min<size_t>(missing, kMaxMissing); ++i)
    facts.missing.push_back(in.number<int32_t>());
  const auto calls = in.number<uint8_t>();
  for (size_t i = 0; i < std::min<size_t>(calls, kMaxCalls); ++i) {
    if (const std::optional<RankCall> call = readCall(in)) facts.calls.push_back(*call);
  }
  if (facts.detectedBy < 0) facts.detectedBy = from;
  facts.consequence = true;
  if (text.empty()) text = "rank " + std::to_string(from) + " reported a failure";
  const bool known = code <= static_cast<uint8_t>(ErrorCode::kInternal);
  return Error(known ? static_cast<ErrorCode>(code) : ErrorCode::kInternal, text, std::move(facts));
}

}  // namespace nc::transport
