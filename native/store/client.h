// A TCPStore client: one connection, blocking calls on the calling thread. Works with our server and with
// PyTorch's (legacy and libuv).
//
// Threads: one thread at a time calls an object; only the Cancel given to a call is used by others.
//
// Every call takes a deadline and optionally a Cancel, which ends it within a poll(2). Errors (nc::Error,
// with facts.op and facts.address) name operation, key and address:
//   kTimeout   the deadline passed. After wait/get/multiGet that waited for keys the client stays usable
//   (what
//              it takes to end such a wait in order may come up to 2 s later, if the server is slow);
//              after a time-out inside a reply or a write the connection is out of step and usable() is
//              false.
//   kNetwork   the connection was lost. There is no reconnecting: usable() is false.
//   kProtocol  the server answered something that the protocol does not have. usable() is false.
//   kInvalidArgument  a key, value or list above the limits of wire.h; nothing was sent.
//   the Cancel's cause  usable() is false unless nothing had been sent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/address.h"
#include "core/cancel.h"
#include "core/challenge.h"
#include "core/deadline.h"
#include "core/unique_fd.h"
#include "store/wire.h"

namespace nc::store {

class Client {
 public:
  // Connects, validates and waits for the nonce. A refused or closed connection is tried again after 5 ms,
  // growing to 50 ms, until the deadline (then kTimeout with the last reason and facts.errnum). A listener
  // that answers something else is kProtocol at once. With credentials both sides prove the secret first;
  // where they do not, or only one side has a secret, it is kAuthentication at once. `prefix` is put before
  // every key as it is: "" raw keys,
  // "/" what PyTorch's client does, "/p/q/" its PrefixStore("p", PrefixStore...).
  static Client connect(const SocketAddress& address, const Deadline& deadline, Cancel* cancel = nullptr,
                        std::string prefix = {}, const Credentials& credentials = {});

  // From a connected socket on which VALIDATE and PING (wire.h: handshake(), nonceMatches()) are already
  // done. The socket is made non-blocking, TCP_NODELAY is set.
  Client(UniqueFd validated, const SocketAddress& called, std::string prefix = {});

  Client(Client&&) noexcept = default;
  Client& operator=(Client&&) noexcept = default;

  // No reply on the wire: returns when the bytes are with the kernel. sync() finds out that they were taken.
  void set(std::string_view key, std::string_view value, const Deadline&, Cancel* = nullptr);
  void append(std::string_view key, std::string_view value, const Deadline&, Cancel* = nullptr);
  void multiSet(const std::vector<std::string>& keys, const std::vector<std::string>& values, const Deadline&,
                Cancel* = nullptr);
  // PING and its answer: all earlier requests of this connection have been served.
  void sync(const Deadline&, Cancel* = nullptr);

  // Waits until the key is there (WAIT, then GET).
  std::string get(std::string_view key, const Deadline&, Cancel* = nullptr);
  // CHECK, then GET: nothing if the key is not there.
  std::optional<std::string> tryGet(std::string_view key, const Deadline&, Cancel* = nullptr);
  // Waits until all keys are there.
  void wait(const std::vector<std::string>& keys, const Deadline&, Cancel* = nullptr);
  bool check(const std::vector<std::string>& keys, const Deadline&, Cancel* = nullptr);
  // Waits until all keys are there; values in the order of the keys.
  std::vector<std::string> multiGet(const std::vector<std::string>& keys, const Deadline&, Cancel* = nullptr);
  // Nothing unless all keys are there.
  std::optional<std::vector<std::string>> tryMultiGet(const std::vector<std::string>& keys, const Deadline&,
                                                      Cancel* = nullptr);
  int64_t add(std::string_view key, int64_t amount, const Deadline&, Cancel* = nullptr);
  // The value that is there afterwards; for an absent key and a non-empty `expected`, `expected` itself (so
  // says the protocol).
  std::string compareSet(std::string_view key, std::string_view expected, std::string_view desired,
                         const Deadline&, Cancel* = nullptr);
  bool deleteKey(std::string_view key, const Deadline&, Cancel* = nullptr);
  int64_t numKeys(const Deadline&, Cancel* = nullptr);

  bool usable() const { return broken_.empty(); }
  int fd() const { return fd_.get(); }  // e.g. for SocketAddress::local(): the address this host uses
  const SocketAddress& address() const { return address_; }  // the server's
  void close() { fd_.reset(); }

 private:
  struct Call;  // what is being done, for messages, and what ends it
  void begin(const Call& call) const;
  void exchange(const std::string& request, void* reply, size_t count, const Call& call);
  void send(const std::string& bytes, const Call& call);
  void receive(void* into, size_t count, const Call& call);
  uint8_t receiveByte(const Call& call);
  int64_t receiveI64(const Call& call);
  std::string receiveString(uint64_t& budget, const Call& call);
  std::vector<std::string> receiveStrings(size_t count, const Call& call);
  bool ready(short events, const Deadline& deadline, bool inStep, const Call& call);
  void awaitKeys(const std::string& request, const Call& call);
  bool checkKeys(const std::string& request, const Call& call);
  bool cancelWait(const Call& call);
  static Deadline atLeastGrace(const Deadline& deadline);
  [[noreturn]] void fail(ErrorCode code, const std::string& what, int errnum, bool inStep,
                         const Call& call) const;
  [[noreturn]] void lost(int errnum, const Call& call);
  void putKey(std::string& out, std::string_view key, const Call& call) const;
  void putValue(std::string& out, std::string_view value, const Call& call) const;
  std::string listHead(Op op, size_t count, const Call& call) const;
  std::string listRequest(Op op, const std::vector<std::string>& keys, const Call& call) const;

  UniqueFd fd_;
  SocketAddress address_;
  std::string prefix_;
  mutable std::string broken_;  // why the connection cannot be used any more
};

// What Client::connect does before it makes the object: a connected, validated, non-blocking socket.
UniqueFd connectValidated(const SocketAddress& address, const Deadline& deadline, Cancel* cancel = nullptr,
                          const Credentials& credentials = {});

// True if a connect(2) to a free port of this host met itself (TCP simultaneous open): close it and try
// again.
bool connectedToItself(int fd);

}  // namespace nc::store
