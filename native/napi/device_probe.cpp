#include "napi/device_probe.h"

#include <string>

#include "nccl/probe.h"

namespace nc::napi {

namespace {

std::string text(Napi::Object options, const char* name) {
  const Napi::Value value = options.Get(name);
  return value.IsString() ? value.As<Napi::String>().Utf8Value() : std::string();
}

Napi::Object library(Napi::Env env, const nccl::LibraryProbe& probe) {
  Napi::Object out = Napi::Object::New(env);
  out["loaded"] = Napi::Boolean::New(env, probe.loaded);
  if (!probe.error.empty()) out["error"] = Napi::String::New(env, probe.error);
  if (!probe.path.empty()) out["path"] = Napi::String::New(env, probe.path);
  if (!probe.source.empty()) out["source"] = Napi::String::New(env, probe.source);
  if (!probe.version.empty()) out["version"] = Napi::String::New(env, probe.version);
  Napi::Array attempts = Napi::Array::New(env, probe.attempts.size());
  for (uint32_t i = 0; i < probe.attempts.size(); ++i) {
    const nccl::LoadAttempt& from = probe.attempts[i];
    Napi::Object attempt = Napi::Object::New(env);
    attempt["source"] = Napi::String::New(env, from.source);
    attempt["path"] = Napi::String::New(env, from.path);
    if (!from.reason.empty()) attempt["reason"] = Napi::String::New(env, from.reason);
    attempts[i] = attempt;
  }
  out["attempts"] = attempts;
  return out;
}

Napi::Object device(Napi::Env env, const nccl::DeviceInfo& info) {
  Napi::Object out = Napi::Object::New(env);
  out["index"] = Napi::Number::New(env, info.index);
  out["name"] = Napi::String::New(env, info.name);
  out["uuid"] = Napi::String::New(env, info.uuid);
  out["busId"] = Napi::String::New(env, info.busId);
  out["memoryBytes"] = Napi::Number::New(env, static_cast<double>(info.memoryBytes));
  return out;
}

Napi::Object driver(Napi::Env env, const nccl::DriverProbe& probe) {
  Napi::Object out = library(env, probe.library);
  Napi::Array devices = Napi::Array::New(env, probe.devices.size());
  for (uint32_t i = 0; i < probe.devices.size(); ++i) devices[i] = device(env, probe.devices[i]);
  out["devices"] = devices;
  Napi::Array peers = Napi::Array::New(env, probe.peers.size());
  for (uint32_t i = 0; i < probe.peers.size(); ++i) {
    Napi::Array row = Napi::Array::New(env, probe.peers[i].size());
    for (uint32_t j = 0; j < probe.peers[i].size(); ++j) row[j] = Napi::Boolean::New(env, probe.peers[i][j]);
    peers[i] = row;
  }
  out["peers"] = peers;
  return out;
}

Napi::Value probe(const Napi::CallbackInfo& info) {
  nccl::ProbeOptions options;
  if (info[0].IsObject()) {
    const auto given = info[0].As<Napi::Object>();
    options.runtime.cudaPath = text(given, "cudaPath");
    options.runtime.hipPath = text(given, "hipPath");
    options.ncclPath = text(given, "ncclPath");
    options.rcclPath = text(given, "rcclPath");
  }
  const nccl::DeviceProbe found = nccl::probeDevices(options);
  Napi::Object out = Napi::Object::New(info.Env());
  out["cuda"] = driver(info.Env(), found.cuda);
  out["hip"] = driver(info.Env(), found.hip);
  out["nccl"] = library(info.Env(), found.nccl);
  out["rccl"] = library(info.Env(), found.rccl);
  return out;
}

}  // namespace

void registerDeviceProbe(Napi::Env env, Napi::Object exports) {
  exports["probeDevices"] = Napi::Function::New(env, probe);
}

}  // namespace nc::napi
