// A TCPStore server: one listening socket, one table, one event-driven thread named "nc-store".
//
// Order of use: listen() or adopt() -> set() of keys that must be there from the start -> start(). Between
// listen() and start() clients can already connect; the kernel queues them.
//
// Threads: the data methods (set ... numKeys) and port()/address() may be called from any thread, hooks
// included; they never wait for the network. start(), stop() and the destructor are the owner's, and are not
// to be called from a hook.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/address.h"
#include "core/challenge.h"
#include "core/deadline.h"
#include "core/unique_fd.h"

namespace nc::store {

class Server {
 public:
  // Numbered from 1 in the order of accepting, never used twice.
  using ConnectionId = uint64_t;

  // Called on the server's thread with no lock held: a hook may call the data methods. It must not wait. What
  // a hook throws closes the connection that it was called for.
  struct Hooks {
    // A connection made or changed a key (SET, MULTI_SET once for each key, ADD, APPEND, COMPARE_SET that
    // took place). Called before the reply is written: what the hook sets, the connection finds after its
    // reply. The in-process data methods do not call it.
    std::function<void(ConnectionId, const std::string& key, const std::string& value)> onKeySet;
    // A connection ended. Only for those that completed VALIDATE; not for those that stop() ends.
    std::function<void(ConnectionId)> onClose;
  };

  struct Options {
    Hooks hooks;
    Millis validateLimit{10'000};  // a connection must have sent VALIDATE by then
    // Above it the oldest that has not sent VALIDATE is dropped. With a secret, as many again may be in the
    // middle of proving it, so that those who say nothing cost those who do nothing.
    size_t maxUnvalidated = 256;
    // With a key, every connection has to prove the secret before it may speak the store's protocol. Any
    // group of the secret may: it can see whose store this is.
    Credentials credentials;
  };

  // Binds exactly `address` (IPv6: V6ONLY), port 0 lets the kernel choose. Throws kAddressInUse,
  // kAddressUnavailable, else kNetwork/kResource.
  static std::unique_ptr<Server> listen(const SocketAddress& address, Options options);
  static std::unique_ptr<Server> listen(const SocketAddress& address) { return listen(address, Options()); }
  // Takes over a TCP socket on which listen(2) was called, in this process or in a parent. Throws
  // kInvalidArgument if it is not one (the descriptor is closed in any case).
  static std::unique_ptr<Server> adopt(UniqueFd listening, Options options);
  static std::unique_ptr<Server> adopt(UniqueFd listening) { return adopt(std::move(listening), Options()); }

  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Starts serving. Once.
  void start();
  // Serves those that are connected on, and nobody else: the port is free when it returns. After start().
  // Throws kResource.
  void stopListening();
  // Closes the listening socket and every connection and joins the thread. Idempotent, takes milliseconds.
  void stop();

  const SocketAddress& address() const;  // as bound, with the real port
  uint16_t port() const;

  // The table, by raw key (PyTorch's client puts "/" before its keys, see the protocol note). Waiting
  // connections are woken as by a request.
  void set(std::string_view key, std::string_view value);
  std::optional<std::string> get(std::string_view key) const;
  bool check(std::string_view key) const;
  // The value that is there afterwards; see the protocol note's table for an absent key.
  std::string compareSet(std::string_view key, std::string_view expected, std::string_view desired);
  // Throws kInvalidArgument if the value is not a decimal int64 or the sum is none.
  int64_t add(std::string_view key, int64_t amount);
  bool deleteKey(std::string_view key);
  size_t numKeys() const;

  // Connections open at this moment, validated or not.
  size_t connections() const;

 private:
  class Loop;
  explicit Server(std::unique_ptr<Loop> loop);
  std::unique_ptr<Loop> loop_;
};

}  // namespace nc::store
