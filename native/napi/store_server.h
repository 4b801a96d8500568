// StoreServer for JavaScript: new StoreServer(host, port, secret, allowUnauthenticated), or with a listening
// descriptor in place of the host; host, port, close(). It does not keep the event loop alive. All methods:
// JavaScript thread.
#pragma once

#include <memory>

#include "napi/environment.h"
#include "store/server.h"

namespace nc::napi {

class StoreServer final : public Napi::ObjectWrap<StoreServer>, private Closable {
 public:
  static Napi::Function define(Napi::Env env);
  explicit StoreServer(const Napi::CallbackInfo& info);
  ~StoreServer() override;

 private:
  void shutdown() noexcept override;
  Napi::Value host(const Napi::CallbackInfo& info);
  Napi::Value port(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  Environment* environment_;  // null after the environment's end
  SocketAddress address_;
  std::unique_ptr<store::Server> server_;  // null once closed
};

}  // namespace nc::napi
