// How a client call's bytes go out and come in, and how it fails.
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "store/client_call.h"

namespace nc::store {

namespace {

// A server of ours never sends more than 8 MiB in a blob; PyTorch's older one keeps what it is given.
constexpr uint64_t kMaxBlob = 64ULL * 1024 * 1024;
constexpr uint64_t kMaxBlobs = 1024ULL * 1024 * 1024;
constexpr size_t kGrowth = 1024 * 1024;
// How long a server may take, after the caller's own deadline, for CANCEL_WAIT's answer and for the value of
// a key that came at the last moment: cut off there, the connection would be out of step for good.
constexpr Millis kGrace{2'000};

}  // namespace

void Client::begin(const Call& call) const {
  if (!broken_.empty() || !fd_) {
    const std::string why = broken_.empty() ? "the client is closed" : broken_;
    fail(broken_.empty() ? ErrorCode::kClosed : ErrorCode::kNetwork, "unusable since: " + why, 0, true, call);
  }
  if (call.cancel) call.cancel->check();
  if (call.deadline.passed()) fail(ErrorCode::kTimeout, "its time had passed before it began", 0, true, call);
}

void Client::putKey(std::string& out, std::string_view key, const Call& call) const {
  const size_t size = prefix_.size() + key.size();
  if (size > kMaxKey) {
    fail(ErrorCode::kInvalidArgument,
         "the key has " + std::to_string(size) + " bytes, " + std::to_string(kMaxKey) + " are allowed", 0,
         true, call);
  }
  if (out.size() + size > kMaxSent) {
    fail(ErrorCode::kInvalidArgument, "more than " + std::to_string(kMaxSent) + " bytes in one request", 0,
         true, call);
  }
  putU64(out, size);
  out.append(prefix_).append(key);
}

void Client::putValue(std::string& out, std::string_view value, const Call& call) const {
  if (value.size() > kMaxValue) {
    fail(ErrorCode::kInvalidArgument,
         "the value has " + std::to_string(value.size()) + " bytes, " + std::to_string(kMaxValue) +
             " are allowed",
         0, true, call);
  }
  if (out.size() + value.size() > kMaxSent) {
    fail(ErrorCode::kInvalidArgument, "more than " + std::to_string(kMaxSent) + " bytes in one request", 0,
         true, call);
  }
  putString(out, value);
}

std::string Client::listHead(Op op, size_t count, const Call& call) const {
  if (count > kMaxList) {
    fail(ErrorCode::kInvalidArgument,
         std::to_string(count) + " keys in one request, " + std::to_string(kMaxList) + " are allowed", 0,
         true, call);
  }
  std::string bytes;
  putOp(bytes, op);
  putU64(bytes, count);
  return bytes;
}

std::string Client::listRequest(Op op, const std::vector<std::string>& keys, const Call& call) const {
  std::string bytes = listHead(op, keys.size(), call);
  for (const std::string& key : keys) putKey(bytes, key, call);
  return bytes;
}

void Client::send(const std::string& bytes, const Call& call) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t count = ::send(fd_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (count >= 0) {
      sent += static_cast<size_t>(count);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      const bool inStep = sent == 0;
      if (!ready(POLLOUT, call.deadline, inStep, call)) {
        fail(ErrorCode::kTimeout, "the server takes no data", ETIMEDOUT, inStep, call);
      }
    } else if (errno != EINTR) {
      lost(errno, call);
    }
  }
}

void Client::receive(void* into, size_t count, const Call& call) {
  auto* bytes = static_cast<char*>(into);
  size_t have = 0;
  while (have < count) {
    const ssize_t got = ::recv(fd_.get(), bytes + have, count - have, 0);
    if (got > 0) {
      have += static_cast<size_t>(got);
    } else if (got == 0) {
      lost(0, call);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!ready(POLLIN, call.deadline, false, call)) {
        fail(ErrorCode::kTimeout, "the server did not answer", ETIMEDOUT, false, call);
      }
    } else if (errno != EINTR) {
      lost(errno, call);
    }
  }
}

// False once the deadline has passed.
bool Client::ready(short events, const Deadline& deadline, bool inStep, const Call& call) {
  while (true) {
    std::array<pollfd, 2> fds{pollfd{fd_.get(), events, 0},
                              pollfd{call.cancel ? call.cancel->fd() : -1, POLLIN, 0}};
    const int count = ::poll(fds.data(), fds.size(), deadline.pollTimeout());
    if (call.cancel && call.cancel->cancelled()) {
      if (!inStep) broken_ = call.text() + " was aborted";
      call.cancel->check();
    }
    if (count > 0) return true;
    if (count == 0) return false;
    if (errno != EINTR) fail(ErrorCode::kNetwork, strerrordesc_np(errno), errno, false, call);
  }
}

uint8_t Client::receiveByte(const Call& call) {
  uint8_t byte = 0;
  receive(&byte, 1, call);
  return byte;
}

int64_t Client::receiveI64(const Call& call) {
  std::array<uint8_t, 8> bytes{};
  receive(bytes.data(), bytes.size(), call);
  return static_cast<int64_t>(getU64(bytes.data()));
}

std::string Client::receiveString(uint64_t& budget, const Call& call) {
  const auto length = static_cast<uint64_t>(receiveI64(call));
  if (length > kMaxBlob || length > budget) {
    fail(ErrorCode::kProtocol, "a reply of " + std::to_string(length) + " bytes", 0, false, call);
  }
  budget -= length;
  // Memory grows with what arrives, not with what is announced.
  std::string bytes;
  while (bytes.size() < length) {
    const size_t have = bytes.size();
    bytes.resize(have + std::min<size_t>(static_cast<size_t>(length) - have, kGrowth));
    receive(bytes.data() + have, bytes.size() - have, call);
  }
  return bytes;
}

std::vector<std::string> Client::receiveStrings(size_t count, const Call& call) {
  uint64_t budget = kMaxBlobs;
  std::vector<std::string> strings;
  strings.reserve(count);
  for (size_t i = 0; i < count; ++i) strings.push_back(receiveString(budget, call));
  return strings;
}

void Client::exchange(const std::string& request, void* reply, size_t count, const Call& call) {
  send(request, call);
  receive(reply, count, call);
}

bool Client::checkKeys(const std::string& request, const Call& call) {
  send(request, call);
  const uint8_t answer = receiveByte(call);
  if (answer > kNotAllThere) {
    fail(ErrorCode::kProtocol, "CHECK was answered " + std::to_string(answer), 0, false, call);
  }
  return answer == kAllThere;
}

void Client::awaitKeys(const std::string& request, const Call& call) {
  send(request, call);
  if (!ready(POLLIN, call.deadline, false, call)) {
    if (!cancelWait(call)) fail(ErrorCode::kTimeout, "not all there", 0, true, call);
    return;
  }
  if (const uint8_t answer = receiveByte(call); answer != kStopWaiting) {
    fail(ErrorCode::kProtocol, "WAIT was answered " + std::to_string(answer), 0, false, call);
  }
}

Deadline Client::atLeastGrace(const Deadline& deadline) {
  const Deadline grace = Deadline::in(kGrace);
  return grace.at() > deadline.at() ? grace : deadline;
}

// True if the keys came at the last moment.
bool Client::cancelWait(const Call& call) {
  const Deadline grace = atLeastGrace(call.deadline);
  const Call cancelling{call.op, call.key, call.keys, grace, call.cancel};
  std::string bytes;
  putOp(bytes, Op::kCancelWait);
  send(bytes, cancelling);
  uint8_t answer = receiveByte(cancelling);
  const bool there = answer == kStopWaiting;
  if (there) answer = receiveByte(cancelling);
  if (answer != kWaitCanceled) {
    fail(ErrorCode::kProtocol, "CANCEL_WAIT was answered " + std::to_string(answer), 0, false, call);
  }
  return there;
}

void Client::fail(ErrorCode code, const std::string& what, int errnum, bool inStep, const Call& call) const {
  std::string message = call.text() + " at " + address_.text() + ": ";
  if (code == ErrorCode::kTimeout) {
    message += "timed out after " + std::to_string(call.deadline.limit().count()) + " ms, ";
  }
  message += what;
  if (!inStep) broken_ = message;
  ErrorFacts facts;
  facts.op = call.op;
  facts.address = address_.text();
  facts.errnum = errnum;
  throw Error(code, message, std::move(facts));
}

void Client::lost(int errnum, const Call& call) {
  const std::string how = errnum == 0 ? "the server closed it" : strerrordesc_np(errnum);
  fail(ErrorCode::kNetwork, "the connection was lost: " + how, errnum == 0 ? ECONNRESET : errnum, false,
       call);
}

}  // namespace nc::store
