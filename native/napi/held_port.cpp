#include "napi/held_port.h"

#include "core/held_port.h"
#include "napi/environment.h"

namespace nc::napi {

namespace {

Napi::Value hold(const Napi::CallbackInfo& info) {
  try {
    HeldPort held = holdPort(SocketAddress::parse(info[0].As<Napi::String>().Utf8Value(), 0));
    Napi::Object out = Napi::Object::New(info.Env());
    out["port"] = Napi::Number::New(info.Env(), held.port);
    out["fd"] = Napi::Number::New(info.Env(), held.fd.release());
    return out;
  } catch (const Error& error) {
    throw Environment::of(info.Env()).thrown(error);
  }
}

void listen(const Napi::CallbackInfo& info) {
  try {
    listenOn(info[0].As<Napi::Number>().Int32Value());
  } catch (const Error& error) {
    throw Environment::of(info.Env()).thrown(error);
  }
}

}  // namespace

void registerHeldPort(Napi::Env env, Napi::Object exports) {
  exports["holdPort"] = Napi::Function::New(env, hold);
  exports["listenOn"] = Napi::Function::New(env, listen);
  exports["closeFd"] = Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
    const UniqueFd closed(info[0].As<Napi::Number>().Int32Value());
  });
}

}  // namespace nc::napi
