// What each request does to the table and what is answered.
#include "store/loop.h"

namespace nc::store {

void Server::Loop::keySet(const Connection& connection, const std::string& key) {
  if (!options_.hooks.onKeySet) return;
  if (const auto value = table_.get(key)) options_.hooks.onKeySet(connection.id, key, *value);
}

// False: the protocol has no reply for this, close the connection.
bool Server::Loop::execute(Connection& connection, Request& request) {
  std::string& out = connection.out;
  switch (request.op) {
    case Op::kValidate:
      unvalidated_.erase(connection.id);
      proving_.erase(connection.id);
      return true;
    case Op::kSet:
      table_.set(request.key, request.value);
      keySet(connection, request.key);
      break;
    case Op::kCompareSet: {
      const Table::Exchange exchange = table_.compareSet(request.key, request.value, request.desired);
      if (exchange.done) keySet(connection, request.key);
      putString(out, exchange.reply);
      break;
    }
    case Op::kGet: {
      // A missing key is an empty blob, as with PyTorch's libuv server.
      const auto value = table_.get(request.key);
      putString(out, value ? std::string_view(*value) : std::string_view());
      return true;
    }
    case Op::kAdd: {
      const auto sum = table_.add(request.key, request.amount);
      if (!sum) return false;
      keySet(connection, request.key);
      putI64(out, *sum);
      break;
    }
    case Op::kCheck:
      putByte(out, table_.check(request.keys) ? kAllThere : kNotAllThere);
      return true;
    case Op::kWait:
      // One wait at a time: a second one takes the place of the first, whose answer has gone out if it was
      // due.
      wake(table_.forget(connection.id));
      if (table_.wait(connection.id, request.keys)) putByte(out, kStopWaiting);
      return true;
    case Op::kGetNumKeys:
      putI64(out, static_cast<int64_t>(table_.size()));
      return true;
    case Op::kDeleteKey:
      putI64(out, table_.deleteKey(request.key) ? 1 : 0);
      return true;
    case Op::kAppend:
      if (!table_.append(request.key, request.value)) return false;
      keySet(connection, request.key);
      break;
    case Op::kMultiGet:
      return table_.appendBlobs(request.keys, kMaxReply, out);
    case Op::kMultiSet:
      for (size_t i = 0; i < request.keys.size(); ++i) table_.set(request.keys[i], request.values[i]);
      for (const std::string& key : request.keys) keySet(connection, key);
      break;
    case Op::kCancelWait:
      // forget() also hands out a wait that another thread fulfilled just now: then 00 goes before 01.
      wake(table_.forget(connection.id));
      putByte(out, kWaitCanceled);
      return true;
    case Op::kPing:
      putU32(out, request.number);
      return true;
  }
  wake(table_.takeWoken());
  return true;
}

}  // namespace nc::store
