// PyTorch's TCPStore protocol as bytes: operations, limits, an incremental parser for requests and encoders
// for both directions. No sockets, no threads: everything here may be used on any thread, one object on one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nc::store {

enum class Op : uint8_t {
  kValidate = 0x00,
  kSet = 0x01,
  kCompareSet = 0x02,
  kGet = 0x03,
  kAdd = 0x04,
  kCheck = 0x05,
  kWait = 0x06,
  kGetNumKeys = 0x07,
  kDeleteKey = 0x08,
  kAppend = 0x09,
  kMultiGet = 0x0A,
  kMultiSet = 0x0B,
  kCancelWait = 0x0C,
  kPing = 0x0D,
};

inline constexpr uint32_t kMagic = 0x3C85F7CE;

// Reply bytes.
inline constexpr uint8_t kAllThere = 0x00;  // CHECK
inline constexpr uint8_t kNotAllThere = 0x01;
inline constexpr uint8_t kStopWaiting = 0x00;  // WAIT
inline constexpr uint8_t kWaitCanceled = 0x01;

// Lengths are compared with these before memory is taken. The first three are those of PyTorch's libuv
// server.
inline constexpr uint64_t kMaxKey = 8 * 1024;
inline constexpr uint64_t kMaxValue = 8 * 1024 * 1024;
inline constexpr uint64_t kMaxList = 131'072;
// All bytes that one request may hold (a MULTI_SET could otherwise ask for 131,072 x 8 MiB), and all bytes of
// one MULTI_GET reply of our server.
inline constexpr uint64_t kMaxRequest = 64 * 1024 * 1024;
inline constexpr uint64_t kMaxReply = 64 * 1024 * 1024;
// What our client sends at most; below kMaxRequest, because the parser counts something for each list entry.
inline constexpr uint64_t kMaxSent = 60 * 1024 * 1024;

// One complete request. Only the fields of its operation are filled.
struct Request {
  Op op{};
  std::string key;
  std::string value;                // SET, APPEND: the value; COMPARE_SET: expected
  std::string desired;              // COMPARE_SET
  int64_t amount = 0;               // ADD
  uint32_t number = 0;              // VALIDATE: magic, PING: nonce
  std::vector<std::string> keys;    // the lists
  std::vector<std::string> values;  // MULTI_SET, as many as keys
};

// Reads requests out of a byte stream in whatever fragments it arrives. Insists on VALIDATE with the right
// magic as the first request and on none later, as PyTorch's servers do; the first wrong byte is enough.
// Takes memory as bytes arrive, never for a length that was only announced.
class RequestParser {
 public:
  enum class Status {
    kNeedMore,  // all input is used up, the request goes on in the next fragment
    kRequest,   // request() is complete; call next() again for the rest of the input
    kBad,       // not this protocol or above a limit: close. The parser stays in this state.
  };

  // Takes bytes from the front of `input` and moves it on.
  Status next(std::span<const uint8_t>& input);
  Request& request() { return request_; }
  bool validated() const { return validated_; }
  // Bytes that the unfinished request holds, for tests of the bound.
  uint64_t held() const { return held_; }

 private:
  enum class Field : uint8_t { kEnd, kKey, kValue, kDesired, kAmount, kNumber, kKeys, kPairs };
  enum class Progress : uint8_t { kMore, kDone, kBad };
  static const std::array<Field, 4>* fieldsOf(uint8_t op);

  Progress field(Field what, std::span<const uint8_t>& input);
  Progress number(size_t width, std::span<const uint8_t>& input);
  Progress string(std::string& into, uint64_t limit, std::span<const uint8_t>& input);
  Progress list(bool pairs, std::span<const uint8_t>& input);

  Request request_;
  const std::array<Field, 4>* fields_ = nullptr;  // null: the operation's byte comes next
  size_t index_ = 0;                              // in fields_
  uint64_t scratch_ = 0;                          // a number being read, little-endian
  size_t scratchBytes_ = 0;
  bool haveLength_ = false;  // of the string being read
  uint64_t length_ = 0;
  bool haveCount_ = false;  // of the list being read
  uint64_t count_ = 0;
  bool inValue_ = false;    // MULTI_SET: a value comes next, or is being read
  bool entryOpen_ = false;  // the list's last entry is being read
  uint64_t held_ = 0;
  bool validated_ = false;
  bool bad_ = false;
};

// Appending encoders. Numbers are little-endian on the wire.
void putByte(std::string& out, uint8_t byte);
void putU32(std::string& out, uint32_t number);
void putU64(std::string& out, uint64_t number);
void putI64(std::string& out, int64_t number);
void putString(std::string& out, std::string_view bytes);  // u64 length, bytes
void putOp(std::string& out, Op op);
uint32_t getU32(const uint8_t* bytes);
uint64_t getU64(const uint8_t* bytes);

// ADD's counters are decimal text. False for anything else ("", "7x", above int64).
bool parseCounter(std::string_view text, int64_t& number);

// The opening of a connection: VALIDATE and PING in one write; the server answers with the nonce's four
// bytes.
std::array<uint8_t, 10> handshake(uint32_t nonce);
bool nonceMatches(std::span<const uint8_t, 4> answer, uint32_t nonce);
uint32_t randomNonce();

// A key or value for a message: quoted, unprintable bytes as \xNN, shortened.
std::string quoted(std::string_view bytes);

}  // namespace nc::store
