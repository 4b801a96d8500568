// The server's event loop: accepts, reads requests, applies them to the table, writes replies. Everything but
// stop() and kick() runs on the one thread that is in run().
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/challenge.h"
#include "core/thread.h"
#include "core/unique_fd.h"
#include "store/server.h"
#include "store/table.h"
#include "store/wire.h"

namespace nc::store {

class Server::Loop {
 public:
  Loop(UniqueFd listener, Options options);
  ~Loop() { stop(); }

  void start();
  void stopListening();
  void stop();
  // Any thread: has the loop answer those whom a change of the table woke.
  void kick();

  Table& table() { return table_; }
  const SocketAddress& address() const { return address_; }
  size_t connections() const { return open_.load(std::memory_order_relaxed); }

 private:
  // Before the store's protocol: the secret is being proven. Of a fixed size, whatever a stranger says.
  struct Gate {
    explicit Gate(const Credentials& credentials) : callee(credentials) {}
    Callee callee;
    bool answered = false;
    std::array<std::byte, kGreetingBytes> bytes{};  // of the message that is being read
    size_t have = 0;
  };
  struct Connection {
    ConnectionId id = 0;
    UniqueFd fd;
    std::unique_ptr<Gate> gate;  // until the secret is proven
    RequestParser parser;
    std::string out;  // replies not yet taken by the kernel, from `sent` on
    size_t sent = 0;
    std::vector<uint8_t> rest;  // input not yet looked at, because its sender does not read replies
    uint32_t interest = 0;      // epoll events asked for
    bool dead = false;
  };

  void endThread();
  void run();
  int timeout() const;
  void accept();
  void pauseAccepting();
  void resumeAccepting();
  bool evictOldestUnvalidated();
  bool pass(Connection& connection, std::span<const uint8_t>& input);
  void refuse(Connection& connection, Refusal why);
  void dropLate();
  void onEvents(Connection& connection, uint32_t events);
  void readFrom(Connection& connection);
  void feed(Connection& connection, std::span<const uint8_t> input);
  bool execute(Connection& connection, Request& request);
  void keySet(const Connection& connection, const std::string& key);
  void wake(const std::vector<Table::WaiterId>& ids);
  void flush(Connection& connection);
  void watch(Connection& connection);
  void bury(Connection& connection);
  void sweep();

  const Options options_;
  Table table_;
  SocketAddress address_;
  UniqueFd epoll_;
  UniqueFd wakeUp_;  // eventfd
  UniqueFd listener_;
  std::atomic<bool> stopping_{false};
  std::atomic<size_t> open_{0};
  std::unordered_map<ConnectionId, std::unique_ptr<Connection>> connections_;
  std::map<ConnectionId, Clock::time_point> unvalidated_;  // in the order of accepting, with their deadline
  std::map<ConnectionId, Clock::time_point> proving_;  // the same of those that have greeted as they should
  std::vector<ConnectionId> dead_;
  std::vector<uint8_t> buffer_;
  ConnectionId lastId_ = 0;
  bool acceptingPaused_ = false;
  Clock::time_point resumeAt_{};
  NamedThread thread_;  // last: ended before the rest goes
};

}  // namespace nc::store
