#include "napi/store_server.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "napi/credentials.h"
#include "napi/listen_fd.h"
#include "rendezvous/access.h"

namespace nc::napi {

namespace {

// The caller keeps its descriptor where that fails.
std::unique_ptr<store::Server> adopt(int fd, const store::Server::Options& options) {
  checkListenFd(fd, "store.listen");
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy) throw systemError("store: descriptor " + std::to_string(fd), errno);
  auto server = store::Server::adopt(std::move(copy), options);
  ::close(fd);
  return server;
}

}  // namespace

Napi::Function StoreServer::define(Napi::Env env) {
  return DefineClass(
      env, "StoreServer",
      {InstanceAccessor<&StoreServer::host>("host"), InstanceAccessor<&StoreServer::port>("port"),
       InstanceMethod<&StoreServer::close>("close")});
}

StoreServer::StoreServer(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<StoreServer>(info), environment_(&Environment::of(info.Env())) {
  try {
    store::Server::Options options;
    const rendezvous::Access access{readSecret(info[2]), info[3].As<Napi::Boolean>().Value()};
    options.credentials = {access.secret, {}};
    if (info[0].IsNumber()) {
      server_ = adopt(info[0].As<Napi::Number>().Int32Value(), options);
    } else {
      const auto port = static_cast<uint16_t>(info[1].As<Napi::Number>().Uint32Value());
      server_ = store::Server::listen(SocketAddress::parse(info[0].As<Napi::String>(), port), options);
    }
    rendezvous::checkListening(server_->address(), access, "store.listen");
    server_->start();
  } catch (const Error& error) {
    throw environment_->thrown(error);
  }
  address_ = server_->address();
  environment_->add(this);
}

StoreServer::~StoreServer() {
  if (environment_ != nullptr) environment_->remove(this);
}

void StoreServer::shutdown() noexcept {
  environment_ = nullptr;
  server_.reset();
}

Napi::Value StoreServer::host(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), address_.host());
}

Napi::Value StoreServer::port(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), address_.port());
}

Napi::Value StoreServer::close(const Napi::CallbackInfo& info) {
  server_.reset();  // its descriptors are not to wait for the garbage collector
  return info.Env().Undefined();
}

}  // namespace nc::napi
