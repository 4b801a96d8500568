#include "store/wire.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace nc::store {

namespace {

// What a list entry or a string costs beside its bytes, so that a flood of empty strings is bounded too.
constexpr uint64_t kEntryCost = sizeof(std::string);

}  // namespace

const std::array<RequestParser::Field, 4>* RequestParser::fieldsOf(uint8_t op) {
  using F = Field;
  static constexpr std::array<std::array<Field, 4>, 14> kFields{{
      {F::kNumber},                       // VALIDATE
      {F::kKey, F::kValue},               // SET
      {F::kKey, F::kValue, F::kDesired},  // COMPARE_SET
      {F::kKey},                          // GET
      {F::kKey, F::kAmount},              // ADD
      {F::kKeys},                         // CHECK
      {F::kKeys},                         // WAIT
      {},                                 // GETNUMKEYS
      {F::kKey},                          // DELETE_KEY
      {F::kKey, F::kValue},               // APPEND
      {F::kKeys},                         // MULTI_GET
      {F::kPairs},                        // MULTI_SET
      {},                                 // CANCEL_WAIT
      {F::kNumber},                       // PING
  }};
  return op < kFields.size() ? &kFields[op] : nullptr;
}

RequestParser::Status RequestParser::next(std::span<const uint8_t>& input) {
  if (bad_) return Status::kBad;
  while (true) {
    if (fields_ == nullptr) {
      if (input.empty()) return Status::kNeedMore;
      const uint8_t op = input.front();
      fields_ = fieldsOf(op);
      const bool validate = op == static_cast<uint8_t>(Op::kValidate);
      if (fields_ == nullptr || validate == validated_) {
        bad_ = true;
        return Status::kBad;
      }
      input = input.subspan(1);
      request_ = Request{};
      request_.op = static_cast<Op>(op);
      index_ = 0;
      held_ = 0;
    }
    while (index_ < fields_->size() && (*fields_)[index_] != Field::kEnd) {
      switch (field((*fields_)[index_], input)) {
        case Progress::kMore:
          return Status::kNeedMore;
        case Progress::kBad:
          bad_ = true;
          request_ = Request{};
          return Status::kBad;
        case Progress::kDone:
          ++index_;
      }
    }
    fields_ = nullptr;
    if (request_.op == Op::kValidate) validated_ = true;
    return Status::kRequest;
  }
}

RequestParser::Progress RequestParser::field(Field what, std::span<const uint8_t>& input) {
  Progress progress = Progress::kDone;
  switch (what) {
    case Field::kKey:
      return string(request_.key, kMaxKey, input);
    case Field::kValue:
      return string(request_.value, kMaxValue, input);
    case Field::kDesired:
      return string(request_.desired, kMaxValue, input);
    case Field::kAmount:
      progress = number(8, input);
      if (progress == Progress::kDone) request_.amount = static_cast<int64_t>(scratch_);
      return progress;
    case Field::kNumber:
      progress = number(4, input);
      if (progress == Progress::kDone) request_.number = static_cast<uint32_t>(scratch_);
      return progress;
    case Field::kKeys:
      return list(false, input);
    case Field::kPairs:
      return list(true, input);
    case Field::kEnd:
      break;
  }
  return progress;
}

RequestParser::Progress RequestParser::number(size_t width, std::span<const uint8_t>& input) {
  if (scratchBytes_ == 0) scratch_ = 0;
  while (scratchBytes_ < width) {
    if (input.empty()) return Progress::kMore;
    const uint8_t byte = input.front();
    input = input.subspan(1);
    scratch_ |= static_cast<uint64_t>(byte) << (8 * scratchBytes_);
    // A stranger is recognized by its first wrong byte, not only once it has sent five.
    if (request_.op == Op::kValidate && byte != static_cast<uint8_t>(kMagic >> (8 * scratchBytes_))) {
      return Progress::kBad;
    }
    ++scratchBytes_;
  }
  scratchBytes_ = 0;
  return Progress::kDone;
}

RequestParser::Progress RequestParser::string(std::string& into, uint64_t limit,
                                              std::span<const uint8_t>& input) {
  if (!haveLength_) {
    if (const Progress progress = number(8, input); progress != Progress::kDone) return progress;
    length_ = scratch_;
    if (length_ > limit || held_ + length_ + kEntryCost > kMaxRequest) return Progress::kBad;
    held_ += kEntryCost;
    haveLength_ = true;
    into.clear();
  }
  const size_t count = static_cast<size_t>(std::min<uint64_t>(length_ - into.size(), input.size()));
  into.append(reinterpret_cast<const char*>(input.data()), count);
  input = input.subspan(count);
  held_ += count;
  if (into.size() < length_) return Progress::kMore;
  haveLength_ = false;
  return Progress::kDone;
}

RequestParser::Progress RequestParser::list(bool pairs, std::span<const uint8_t>& input) {
  if (!haveCount_) {
    if (const Progress progress = number(8, input); progress != Progress::kDone) return progress;
    count_ = scratch_;
    if (count_ > kMaxList) return Progress::kBad;
    haveCount_ = true;
  }
  while (inValue_ || entryOpen_ || request_.keys.size() < count_) {
    std::vector<std::string>& entries = inValue_ ? request_.values : request_.keys;
    if (!entryOpen_) {
      entries.emplace_back();
      entryOpen_ = true;
    }
    const Progress progress = string(entries.back(), inValue_ ? kMaxValue : kMaxKey, input);
    if (progress != Progress::kDone) return progress;
    entryOpen_ = false;
    inValue_ = pairs && !inValue_;
  }
  haveCount_ = false;
  return Progress::kDone;
}

void putByte(std::string& out, uint8_t byte) {
  out.push_back(static_cast<char>(byte));
}

void putU32(std::string& out, uint32_t number) {
  for (int shift = 0; shift < 32; shift += 8) putByte(out, static_cast<uint8_t>(number >> shift));
}

void putU64(std::string& out, uint64_t number) {
  for (int shift = 0; shift < 64; shift += 8) putByte(out, static_cast<uint8_t>(number >> shift));
}

void putI64(std::string& out, int64_t number) {
  putU64(out, static_cast<uint64_t>(number));
}

void putString(std::string& out, std::string_view bytes) {
  putU64(out, bytes.size());
  out.append(bytes);
}

void putOp(std::string& out, Op op) {
  putByte(out, static_cast<uint8_t>(op));
}

uint32_t getU32(const uint8_t* bytes) {
  uint32_t number = 0;
  for (int i = 0; i < 4; ++i) number |= static_cast<uint32_t>(bytes[i]) << (8 * i);
  return number;
}

uint64_t getU64(const uint8_t* bytes) {
  uint64_t number = 0;
  for (int i = 0; i < 8; ++i) number |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  return number;
}

bool parseCounter(std::string_view text, int64_t& number) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size();
}

std::array<uint8_t, 10> handshake(uint32_t nonce) {
  std::string bytes;
  putOp(bytes, Op::kValidate);
  putU32(bytes, kMagic);
  putOp(bytes, Op::kPing);
  putU32(bytes, nonce);
  std::array<uint8_t, 10> result{};
  std::copy(bytes.begin(), bytes.end(), result.begin());
  return result;
}

bool nonceMatches(std::span<const uint8_t, 4> answer, uint32_t nonce) {
  return getU32(answer.data()) == nonce;
}

uint32_t randomNonce() {
  uint32_t nonce = 0;
  // Not a secret; the process id (what PyTorch sends) is good enough where the kernel has no entropy yet.
  if (::getrandom(&nonce, sizeof(nonce), GRND_NONBLOCK) != sizeof(nonce)) {
    nonce = static_cast<uint32_t>(::getpid());
  }
  return nonce;
}

std::string quoted(std::string_view bytes) {
  constexpr size_t kMost = 80;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "'";
  for (const char c : bytes.substr(0, kMost)) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte >= 0x20 && byte < 0x7F && c != '\'' && c != '\\') {
      out.push_back(c);
    } else {
      out.append("\\x").push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 15]);
    }
  }
  return out + (bytes.size() > kMost ? "...'" : "'");
}

}  // namespace nc::store
