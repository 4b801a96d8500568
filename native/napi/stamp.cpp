#include "napi/stamp.h"

namespace nc::napi {

void setStamp(Napi::Object out, const Stamp& stamp) {
  const Napi::Env env = out.Env();
  out["seq"] = Napi::Number::New(env, static_cast<double>(stamp.seq));
  out["op"] = Napi::String::New(env, name(stamp.kind));
  out["dtype"] = Napi::String::New(env, name(stamp.dtype));
  if (stamp.reduceOp != ReduceOp::kNone) out["reduceOp"] = Napi::String::New(env, name(stamp.reduceOp));
  if (stamp.root >= 0) out["root"] = Napi::Number::New(env, stamp.root);
  if (stamp.device) out["device"] = Napi::Boolean::New(env, true);
  out["count"] = Napi::Number::New(env, static_cast<double>(stamp.count));
}

}  // namespace nc::napi
