// The request parser: fragmentation at every byte, limits, strangers; counters and quoting.
#include "store_support.h"

using namespace store_test;
using namespace nc::store;
using Status = RequestParser::Status;

namespace {

std::span<const uint8_t> bytesOf(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string validation() {
  return unhex("00 CEF7853C");
}

std::string describe(const Request& r) {
  std::string out = std::to_string(static_cast<int>(r.op)) + "|" + r.key + "|" + r.value + "|" + r.desired +
                    "|" + std::to_string(r.amount) + "|" + std::to_string(r.number);
  for (const auto& key : r.keys) out += "|" + key;
  for (const auto& value : r.values) out += "|" + value;
  return out;
}

// One of each operation, lists of 0, 1 and several entries, empty strings.
std::string everything() {
  std::string out = validation();
  const auto list = [&](Op op, std::initializer_list<const char*> keys) {
    putOp(out, op);
    putU64(out, keys.size());
    for (const char* key : keys) putString(out, key);
  };
  putOp(out, Op::kSet), putString(out, "key"), putString(out, "value");
  putOp(out, Op::kSet), putString(out, ""), putString(out, "");
  putOp(out, Op::kCompareSet), putString(out, "c"), putString(out, ""), putString(out, "desired");
  putOp(out, Op::kGet), putString(out, "key");
  putOp(out, Op::kAdd), putString(out, "n"), putI64(out, -77);
  list(Op::kCheck, {});
  list(Op::kCheck, {"a", "", "c"});
  list(Op::kWait, {"x"});
  putOp(out, Op::kGetNumKeys);
  putOp(out, Op::kDeleteKey), putString(out, "key");
  putOp(out, Op::kAppend), putString(out, "key"), putString(out, "more");
  list(Op::kMultiGet, {"", ""});
  putOp(out, Op::kMultiSet), putU64(out, 3);
  for (const char* key : {"k1", "", "k3"}) putString(out, key), putString(out, key + std::string("v"));
  putOp(out, Op::kMultiSet), putU64(out, 0);
  putOp(out, Op::kCancelWait);
  putOp(out, Op::kPing), putU32(out, 0x04030201);
  return out;
}

std::vector<std::string> parse(const std::string& stream, size_t cut) {
  RequestParser parser;
  std::vector<std::string> seen;
  for (size_t at = 0; at < stream.size();) {
    const size_t end = at == 0 && cut < stream.size() ? cut : stream.size();
    const std::string part = stream.substr(at, std::max(end, at + 1) - at);
    auto input = bytesOf(part);
    Status status;
    while ((status = parser.next(input)) == Status::kRequest) seen.push_back(describe(parser.request()));
    CHECK(status == Status::kNeedMore);
    CHECK(input.empty());
    at += part.size();
  }
  return seen;
}

Status last(const std::string& stream) {
  RequestParser parser;
  auto input = bytesOf(stream);
  Status status;
  while ((status = parser.next(input)) == Status::kRequest) {
  }
  return status;
}

}  // namespace

TEST_CASE("requests are the same however they are cut") {
  const std::string stream = everything();
  const auto whole = parse(stream, stream.size());
  CHECK(whole.size() == 17);
  CHECK(whole[1] == "1|key|value||0|0");
  CHECK(whole[5] == "4|n|||-77|0");
  CHECK(whole[13] == "11||||0|0|k1||k3|k1v|v|k3v");
  CHECK(whole[16] == "13||||0|67305985");
  for (size_t cut = 1; cut < stream.size(); ++cut) CHECK(parse(stream, cut) == whole);

  RequestParser parser;
  std::vector<std::string> seen;
  for (const char c : stream) {
    const std::string one(1, c);
    auto input = bytesOf(one);
    while (parser.next(input) == Status::kRequest) seen.push_back(describe(parser.request()));
  }
  CHECK(seen == whole);
}

TEST_CASE("a stranger is known by its first wrong byte") {
  CHECK(last("G") == Status::kBad);
  CHECK(last(unhex("0D")) == Status::kBad);
  CHECK(last(unhex("00 CE F7 85 3D")) == Status::kBad);
  CHECK(last(unhex("00 CF")) == Status::kBad);
  CHECK(last(unhex("00 CE F7 85")) == Status::kNeedMore);
  CHECK(last(validation() + unhex("00")) == Status::kBad);
  CHECK(last(validation() + unhex("0E")) == Status::kBad);
  CHECK(last(validation() + unhex("FF")) == Status::kBad);
}

TEST_CASE("lengths are bounded before memory is taken") {
  const auto key = [](uint64_t length) {
    std::string out = validation();
    putOp(out, Op::kGet), putU64(out, length);
    return last(out);
  };
  CHECK(key(kMaxKey) == Status::kNeedMore);
  CHECK(key(kMaxKey + 1) == Status::kBad);
  CHECK(key(UINT64_MAX) == Status::kBad);
  const auto value = [](uint64_t length) {
    std::string out = validation();
    putOp(out, Op::kSet), putString(out, "k"), putU64(out, length);
    return last(out);
  };
  CHECK(value(kMaxValue) == Status::kNeedMore);
  CHECK(value(kMaxValue + 1) == Status::kBad);
  CHECK(value(UINT64_MAX) == Status::kBad);
  for (const Op op : {Op::kCheck, Op::kWait, Op::kMultiGet, Op::kMultiSet}) {
    const auto count = [op](uint64_t entries) {
      std::string out = validation();
      putOp(out, op), putU64(out, entries);
      return last(out);
    };
    CHECK(count(kMaxList) == Status::kNeedMore);
    CHECK(count(kMaxList + 1) == Status::kBad);
    CHECK(count(UINT64_MAX) == Status::kBad);
  }
}

TEST_CASE("one request holds no more than its bound") {
  RequestParser parser;
  std::string head = validation();
  putOp(head, Op::kMultiSet), putU64(head, kMaxList);
  std::string pair;
  putString(pair, "k"), putString(pair, std::string(kMaxValue, 'v'));
  auto input = bytesOf(head);
  while (parser.next(input) == Status::kRequest) {
  }
  int pairs = 0;
  for (Status status = Status::kNeedMore; status == Status::kNeedMore; ++pairs) {
    input = bytesOf(pair);
    status = parser.next(input);
    CHECK(parser.held() <= kMaxRequest);
  }
  CHECK(pairs == 8);  // seven of 8 MiB are within 64 MiB, the eighth with its key is not
}

TEST_CASE("a full list of long keys is taken, empty ones too") {
  for (const size_t length : {size_t{0}, size_t{400}}) {
    std::string stream = validation();
    putOp(stream, Op::kWait), putU64(stream, kMaxList);
    for (uint64_t i = 0; i < kMaxList; ++i) putString(stream, std::string(length, 'k'));
    RequestParser parser;
    auto input = bytesOf(stream);
    CHECK(parser.next(input) == Status::kRequest);
    CHECK(parser.next(input) == Status::kRequest);
    CHECK(parser.request().keys.size() == kMaxList);
  }
}

TEST_CASE("counters are decimal int64 text") {
  int64_t number = 0;
  for (const auto& [text, want] :
       std::initializer_list<std::pair<const char*, int64_t>>{{"0", 0},
                                                              {"-58", -58},
                                                              {"+7", 7},
                                                              {"9223372036854775807", INT64_MAX},
                                                              {"-9223372036854775808", INT64_MIN}}) {
    CHECK(parseCounter(text, number));
    CHECK(number == want);
  }
  for (const char* text : {"", "+", "-", "+-1", "++1", "7x", " 7", "0x10", "9223372036854775808", "1e3"}) {
    CHECK_FALSE(parseCounter(text, number));
  }
}

TEST_CASE("keys in messages are printable and short") {
  CHECK(quoted("a/b") == "'a/b'");
  CHECK(quoted(std::string_view("\0\n'\xff", 4)) == "'\\x00\\x0a\\x27\\xff'");
  CHECK(quoted(std::string(1000, 'x')).size() == 85);
}
