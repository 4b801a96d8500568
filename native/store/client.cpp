#include "store/client.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <utility>

#include "core/error.h"
#include "store/client_call.h"
#include "store/wire.h"

namespace nc::store {

Client::Client(UniqueFd validated, const SocketAddress& called, std::string prefix)
    : fd_(std::move(validated)),
      address_(SocketAddress::peer(fd_.get()).value_or(called)),
      prefix_(std::move(prefix)) {
  ::fcntl(fd_.get(), F_SETFL, ::fcntl(fd_.get(), F_GETFL) | O_NONBLOCK);
  const int on = 1;
  ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  // A wait may last for hours; a server whose host vanished is to be noticed in a minute.
  const int idle = 20;
  const int interval = 5;
  const int tries = 4;
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
  ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
  ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof(tries));
}

void Client::set(std::string_view key, std::string_view value, const Deadline& deadline, Cancel* cancel) {
  const Call call{"store.set", key, nullptr, deadline, cancel};
  begin(call);
  std::string bytes;
  putOp(bytes, Op::kSet);
  putKey(bytes, key, call);
  putValue(bytes, value, call);
  send(bytes, call);
}

void Client::append(std::string_view key, std::string_view value, const Deadline& deadline, Cancel* cancel) {
  const Call call{"store.append", key, nullptr, deadline, cancel};
  begin(call);
  std::string bytes;
  putOp(bytes, Op::kAppend);
  putKey(bytes, key, call);
  putValue(bytes, value, call);
  send(bytes, call);
}

void Client::multiSet(const std::vector<std::string>& keys, const std::vector<std::string>& values,
                      const Deadline& deadline, Cancel* cancel) {
  const Call call{"store.multiSet", {}, &keys, deadline, cancel};
  begin(call);
  if (keys.size() != values.size()) {
    fail(ErrorCode::kInvalidArgument, std::to_string(values.size()) + " values for them", 0, true, call);
  }
  std::string bytes = listHead(Op::kMultiSet, keys.size(), call);
  for (size_t i = 0; i < keys.size(); ++i) {
    putKey(bytes, keys[i], call);
    putValue(bytes, values[i], call);
  }
  send(bytes, call);
}

void Client::sync(const Deadline& deadline, Cancel* cancel) {
  const Call call{"store.sync", {}, nullptr, deadline, cancel};
  begin(call);
  const uint32_t nonce = randomNonce();
  std::string bytes;
  putOp(bytes, Op::kPing);
  putU32(bytes, nonce);
  std::array<uint8_t, 4> answer{};
  exchange(bytes, answer.data(), answer.size(), call);
  if (!nonceMatches(answer, nonce)) fail(ErrorCode::kProtocol, "wrong nonce", 0, false, call);
}

std::string Client::get(std::string_view key, const Deadline& deadline, Cancel* cancel) {
  const Call call{"store.get", key, nullptr, deadline, cancel};
  begin(call);
  awaitKeys(listRequest(Op::kWait, {std::string(key)}, call), call);
  const Deadline enough = atLeastGrace(deadline);
  const Call fetch{call.op, key, nullptr, enough, cancel};
  std::string bytes;
  putOp(bytes, Op::kGet);
  putKey(bytes, key, fetch);
  send(bytes, fetch);
  return std::move(receiveStrings(1, fetch).front());
}

std::optional<std::string> Client::tryGet(std::string_view key, const Deadline& deadline, Cancel* cancel) {
  const Call call{"store.tryGet", key, nullptr, deadline, cancel};
  begin(call);
  if (!checkKeys(listRequest(Op::kCheck, {std::string(key)}, call), call)) return {};
  std::string bytes;
  putOp(bytes, Op::kGet);
  putKey(bytes, key, call);
  send(bytes, call);
  return std::move(receiveStrings(1, call).front());
}

void Client::wait(const std::vector<std::string>& keys, const Deadline& deadline, Cancel* cancel) {
  const Call call{"store.wait", {}, &keys, deadline, cancel};
  begin(call);
  awaitKeys(listRequest(Op::kWait, keys, call), call);
}

bool Client::check(const std::vector<std::string>& keys, const Deadline& deadline, Cancel* cancel) {
  const Call call{"store.check", {}, &keys, deadline, cancel};
  begin(call);
  return checkKeys(listRequest(Op::kCheck, keys, call), call);
}

std::vector<std::string> Client::multiGet(const std::vector<std::string>& keys, const Deadline& deadline,
                                          Cancel* cancel) {
  const Call call{"store.multiGet", {}, &keys, deadline, cancel};
  begin(call);
  awaitKeys(listRequest(Op::kWait, keys, call), call);
  const Deadline enough = atLeastGrace(deadline);
  const Call fetch{call.op, {}, &keys, enough, cancel};
  send(listRequest(Op::kMultiGet, keys, fetch), fetch);
  return receiveStrings(keys.size(), fetch);
}

std::optional<std::vector<std::string>> Client::tryMultiGet(const std::vector<std::string>& keys,
                                                            const Deadline& deadline, Cancel* cancel) {
  const Call call{"store.tryMultiGet", {}, &keys, deadline, cancel};
  begin(call);
  if (!checkKeys(listRequest(Op::kCheck, keys, call), call)) return {};
  send(listRequest(Op::kMultiGet, keys, call), call);
  return receiveStrings(keys.size(), call);
}

int64_t Client::add(std::string_view key, int64_t amount, const Deadline& deadline, Cancel* cancel) {
  const Call call{"store.add", key, nullptr, deadline, cancel};
  begin(call);
  std::string bytes;
  putOp(bytes, Op::kAdd);
  putKey(bytes, key, call);
  putI64(bytes, amount);
  send(bytes, call);
  return receiveI64(call);
}

std::string Client::compareSet(std::string_view key, std::string_view expected, std::string_view desired,
                               const Deadline& deadline, Cancel* cancel) {
  const Call call{"store.compareSet", key, nullptr, deadline, cancel};
  begin(call);
  std::string bytes;
  putOp(bytes, Op::kCompareSet);
  putKey(bytes, key, call);
  putValue(bytes, expected, call);
  putValue(bytes, desired, call);
  send(bytes, call);
  return std::move(receiveStrings(1, call).front());
}

bool Client::deleteKey(std::string_view key, const Deadline& deadline, Cancel* cancel) {
  const Call call{"store.deleteKey", key, nullptr, deadline, cancel};
  begin(call);
  std::string bytes;
  putOp(bytes, Op::kDeleteKey);
  putKey(bytes, key, call);
  send(bytes, call);
  return receiveI64(call) > 0;
}

int64_t Client::numKeys(const Deadline& deadline, Cancel* cancel) {
  const Call call{"store.numKeys", {}, nullptr, deadline, cancel};
  begin(call);
  std::string bytes;
  putOp(bytes, Op::kGetNumKeys);
  send(bytes, call);
  return receiveI64(call);
}

}  // namespace nc::store
