#include "transport/frame.h"

#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <random>

#include "core/deadline.h"
#include "mesh_support.h"
#include "transport/describe.h"
#include "transport/failure.h"

using namespace nc;
using namespace nc::transport;
using namespace nc::transport::test;

namespace {

using Header = std::array<std::byte, kFrameHeaderBytes>;

Header headerBytes(const FrameHeader& header) {
  Header out{};
  encode(header, out);
  return out;
}

void checkRefused(Header bytes, size_t at, int value) {
  bytes[at] = static_cast<std::byte>(value);
  CAPTURE(at);
  CAPTURE(value);
  const auto error = errorOf([&] { decode(bytes); });
  REQUIRE(error);
  CHECK(error->code == ErrorCode::kProtocol);
}

}  // namespace

TEST_CASE("a header has the documented layout") {
  FrameHeader header;
  header.kind = FrameKind::kData;
  header.generation = 0x01020304;
  header.stamp = {0x1112131415161718, OpKind::kBroadcast, DType::kFloat32,
                  ReduceOp::kNone,    0x05060708,         0x2122232425262728};
  header.slot = 0x3132333435363738;
  header.length = 0x41;
  header.number = 0x5152535455565758;
  header.tag = 0x6162636465666768;
  const Header bytes = headerBytes(header);
  const std::array<int, kFrameHeaderBytes> expected{
      0x4E, 0x43, 2,    1,    2,    11,   0,    0,    4,    3,    2,    1,    8,    7,    6,    5,
      0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,
      0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, 0x41, 0,    0,    0,    0,    0,    0,    0,
      0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51, 0x68, 0x67, 0x66, 0x65, 0x64, 0x63, 0x62, 0x61};
  for (size_t i = 0; i < bytes.size(); ++i) {
    CAPTURE(i);
    CHECK(static_cast<int>(bytes[i]) == expected[i]);
  }
}

TEST_CASE("what is encoded is decoded") {
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    FrameHeader header;
    header.kind = static_cast<FrameKind>(1 + random() % static_cast<uint64_t>(kLastFrameKind));
    header.generation = static_cast<uint32_t>(random());
    header.stamp.seq = random();
    header.stamp.kind = static_cast<OpKind>(1 + random() % 4);
    header.stamp.dtype = static_cast<DType>(1 + random() % 12);
    header.stamp.reduceOp = static_cast<ReduceOp>(random() % 9);
    header.stamp.root = static_cast<int32_t>(random());
    header.stamp.count = random();
    const bool data = header.kind == FrameKind::kData || header.kind == FrameKind::kMessage;
    header.stamp.device = !data && random() % 2 == 0;
    header.slot = random();
    header.length = random() % (kMaxControlBytes + 1);
    header.number = random();
    header.tag = random();
    Header bytes = headerBytes(header);
    const FrameHeader back = decode(bytes);
    CHECK(back.kind == header.kind);
    CHECK(back.generation == header.generation);
    CHECK(back.stamp == header.stamp);
    CHECK(back.slot == header.slot);
    CHECK(back.length == header.length);
    CHECK(back.number == header.number);
    CHECK(back.tag == header.tag);
    setNumber(bytes, header.number + 1);
    CHECK(decode(bytes).number == header.number + 1);
    setNumber(bytes, header.number);
    CHECK(bytes == headerBytes(header));
  }
}

TEST_CASE("what this version does not send is refused") {
  const Header data = headerBytes(dataHeader(1, 2, 3));
  CHECK_NOTHROW(decode(data));
  checkRefused(data, 0, 0);
  checkRefused(data, 1, 0);
  checkRefused(data, 2, 1);
  checkRefused(data, 3, 0);
  checkRefused(data, 3, static_cast<int>(kLastFrameKind) + 1);
  checkRefused(data, 4, 0);
  checkRefused(data, 4, static_cast<int>(kLastOpKind) + 1);
  checkRefused(data, 4, 200);
  checkRefused(data, 5, 0);
  checkRefused(data, 5, static_cast<int>(kLastDType) + 1);
  checkRefused(data, 6, 9);
  checkRefused(data, 7, 1);
  FrameHeader message = dataHeader(1, 2, 3);
  message.kind = FrameKind::kMessage;
  CHECK_NOTHROW(decode(headerBytes(message)));
  checkRefused(headerBytes(message), 4, 0);
  checkRefused(headerBytes(message), 7, 1);
  checkRefused(headerBytes(controlHeader(FrameKind::kCalled, 1)), 7, 2);
  checkRefused(data, 47, 1);  // a length of 2^56 and more

  FrameHeader longest = dataHeader(1, 2, kMaxDataBytes);
  CHECK_NOTHROW(decode(headerBytes(longest)));
  longest.length += 1;
  CHECK_THROWS_AS(decode(headerBytes(longest)), Error);
  FrameHeader control = controlHeader(FrameKind::kFailure, 0);
  control.length = kMaxControlBytes;
  CHECK_NOTHROW(decode(headerBytes(control)));
  control.length += 1;
  CHECK_THROWS_AS(decode(headerBytes(control)), Error);
}

TEST_CASE("a failure keeps its facts on the way") {
  ErrorFacts facts;
  facts.rank = 3;
  facts.detectedBy = 6;
  facts.peer = 5;
  facts.peerHost = "node-17";
  facts.peerPid = 4'194'304;
  facts.op = "allReduce";
  facts.seq = 1'234'567'890'123;
  facts.errnum = 104;
  facts.address = "[::1]:29500";
  facts.missing = {1, 4, 5};
  facts.calls = {{3, stampOf(7, 4), 0},
                 {5, Stamp{7, OpKind::kSend, DType::kUint8, ReduceOp::kNone, 3, 9, true}, 77}};
  const Error cause(ErrorCode::kRankLost, "rank 5 was lost", facts);
  const Bytes body = encodeFailure(cause);
  const Error told = decodeFailure(body, 2);
  CHECK(told.code == ErrorCode::kRankLost);
  CHECK(std::string(told.what()) == "rank 5 was lost");
  CHECK(told.facts.rank == 3);
  CHECK(told.facts.detectedBy == 6);
  CHECK(told.facts.peer == 5);
  CHECK(told.facts.peerHost == "node-17");
  CHECK(told.facts.peerPid == 4'194'304);
  CHECK(told.facts.op == "allReduce");
  CHECK(told.facts.seq == 1'234'567'890'123);
  CHECK(told.facts.errnum == 104);
  CHECK(told.facts.address == "[::1]:29500");
  CHECK(told.facts.missing == std::vector{1, 4, 5});
  CHECK(told.facts.calls == facts.calls);
  CHECK(told.facts.consequence);
  CHECK_FALSE(cause.facts.consequence);

  // Cut anywhere it still is a failure.
  for (size_t n = 0; n < body.size(); ++n) {
    const Bytes cut(body.begin(), body.begin() + static_cast<ptrdiff_t>(n));
    CHECK(decodeFailure(cut, 2).facts.consequence);
    // A call that was cut is none.
    for (const RankCall& call : decodeFailure(cut, 2).facts.calls) CHECK(call.rank == 3);
    // Who told saw it, if it does not say who did.
    CHECK(decodeFailure(cut, 2).facts.detectedBy == (n < 9 ? 2 : 6));
  }
}

TEST_CASE("a long text is cut between characters") {
  const auto toldOf = [](const std::string& text) {
    return std::string(decodeFailure(encodeFailure(Error(ErrorCode::kAborted, text, {})), 1).what());
  };
  const std::string euro = "\xE2\x82\xAC";
  for (const size_t before : {0, 1, 2}) {
    std::string text(before, 'x');
    while (text.size() < 3000) text += euro;
    const std::string told = toldOf(text);
    CHECK((told.size() - before) % euro.size() == 0);
    CHECK(told == text.substr(0, told.size()));
    CHECK(told.size() > 1490);
  }
  CHECK(toldOf(std::string(3000, '\x80')).size() < 1600);  // no UTF-8 at all
}

TEST_CASE("any failure fits a control frame, and any bytes are a failure") {
  ErrorFacts facts;
  facts.peerHost = facts.op = facts.address = std::string(100'000, 'x');
  facts.missing.assign(100'000, 1);
  facts.calls.assign(1000, {1, stampOf(1, 4), 0});
  CHECK(encodeFailure(Error(ErrorCode::kTimeout, std::string(100'000, 'y'), facts)).size() <=
        kMaxControlBytes);

  for (unsigned seed = 0; seed < 2000; ++seed) {
    const Error told = decodeFailure(pattern(seed % 300, seed), 9);
    CHECK(told.facts.consequence);
    CHECK(std::strlen(told.what()) > 0);
  }
  const Error empty = decodeFailure({}, 9);
  CHECK(std::string(empty.what()) == "rank 9 reported a failure");
}

TEST_CASE("members and calls in words") {
  CHECK(describe(Member{3, "host", 4711, ""}) == "rank 3 (pid 4711 on host)");
  CHECK(describe(Member{3, "", 0, ""}) == "rank 3");
  CHECK(describe(stampOf(1, 4)) == "allReduce(int32 x 4, max)");
  CHECK(describe(Stamp{1, OpKind::kBroadcast, DType::kFloat64, ReduceOp::kNone, 2, 8}) ==
        "broadcast(float64 x 8, root 2)");
}
