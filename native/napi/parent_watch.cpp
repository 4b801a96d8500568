#include "napi/parent_watch.h"

#include "core/parent_watch.h"
#include "napi/environment.h"

namespace nc::napi {

namespace {

Napi::Value watch(const Napi::CallbackInfo& info) {
  const auto given = info[0].As<Napi::Object>();
  const auto number = [&](const char* name) { return given.Get(name).As<Napi::Number>().Int64Value(); };
  ParentWatch asked;
  asked.parent = static_cast<pid_t>(number("parent"));
  asked.signal = static_cast<int>(number("signal"));
  asked.grace = Millis(number("graceMs"));
  asked.byNumber = given.Get("byNumber").ToBoolean();
  try {
    return Napi::Number::New(info.Env(), watchParent(asked));
  } catch (const Error& error) {
    throw Environment::of(info.Env()).thrown(error);
  }
}

}  // namespace

void registerParentWatch(Napi::Env env, Napi::Object exports) {
  exports["watchParent"] = Napi::Function::New(env, watch);
  exports["watchedParent"] = Napi::Function::New(
      env, [](const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), watchedParent()); });
}

}  // namespace nc::napi
