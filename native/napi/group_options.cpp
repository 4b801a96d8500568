#include "napi/group_options.h"

#include <string>
#include <vector>

#include "napi/credentials.h"
#include "napi/listen_fd.h"

namespace nc::napi {

namespace {

std::vector<std::string> texts(Napi::Value value) {
  const auto array = value.As<Napi::Array>();
  std::vector<std::string> out;
  for (uint32_t i = 0; i < array.Length(); ++i) out.push_back(array.Get(i).As<Napi::String>().Utf8Value());
  return out;
}

std::vector<int> numbers(Napi::Value value) {
  const auto array = value.As<Napi::Array>();
  std::vector<int> out;
  for (uint32_t i = 0; i < array.Length(); ++i) out.push_back(array.Get(i).As<Napi::Number>().Int32Value());
  return out;
}

}  // namespace

group::GroupOptions readGroupOptions(Napi::Object options) {
  group::GroupOptions out;
  rendezvous::JoinOptions& join = out.join;
  join.hosts = texts(options.Get("hosts"));
  const auto ports = options.Get("ports").As<Napi::Array>();
  for (uint32_t i = 0; i < ports.Length(); ++i) {
    join.ports.push_back(static_cast<uint16_t>(ports.Get(i).As<Napi::Number>().Uint32Value()));
  }
  const int listenFd = options.Get("listenFd").As<Napi::Number>().Int32Value();
  // The group owns it from here on: a copy left open would keep the port after the group is gone.
  if (listenFd >= 0) {
    checkListenFd(listenFd, "create");
    join.listenFd = UniqueFd(listenFd);
  }
  const std::vector<std::string> alsoAt = texts(options.Get("alsoAt"));  // hosts and ports in turn
  for (size_t i = 0; i + 1 < alsoAt.size(); i += 2) {
    join.alsoAt.push_back(SocketAddress::parse(alsoAt[i], static_cast<uint16_t>(std::stoul(alsoAt[i + 1]))));
  }
  join.rank = options.Get("rank").As<Napi::Number>().Int32Value();
  join.memberId = options.Get("memberId").As<Napi::String>().Utf8Value();
  join.identity.ancestry.lineage = options.Get("lineage").As<Napi::String>().Utf8Value();
  join.identity.ancestry.ranks = numbers(options.Get("ranks"));
  join.identity.ancestry.lost = numbers(options.Get("lost"));
  join.identity.size = options.Get("size").As<Napi::Number>().Int32Value();
  join.identity.groupName = options.Get("groupName").As<Napi::String>().Utf8Value();
  join.identity.jobId = options.Get("jobId").As<Napi::String>().Utf8Value();
  join.identity.generation = options.Get("generation").As<Napi::Number>().Uint32Value();
  join.access.secret = readSecret(options.Get("secret"));
  join.access.allowUnauthenticated = options.Get("allowUnauthenticated").As<Napi::Boolean>().Value();
  join.allowedAddresses = texts(options.Get("allowedAddresses"));
  const std::vector<std::string> settings = texts(options.Get("settings"));
  for (size_t i = 0; i + 1 < settings.size(); i += 2)
    join.settings.emplace_back(settings[i], settings[i + 1]);
  const Napi::Value leaving = options.Get("leaving");
  if (leaving.IsString()) out.leaving = leaving.As<Napi::String>().Utf8Value();
  const Napi::Value device = options.Get("device");
  if (device.IsObject()) {
    const auto chosen = device.As<Napi::Object>();
    out.device.emplace();
    out.device->index = chosen.Get("index").As<Napi::Number>().Int32Value();
    out.device->nccl.path = chosen.Get("ncclPath").As<Napi::String>().Utf8Value();
  }
  out.initTimeout = Millis(options.Get("initTimeoutMs").As<Napi::Number>().Int64Value());
  out.heartbeat.every = Millis(options.Get("heartbeatMs").As<Napi::Number>().Int64Value());
  out.heartbeat.deadAfter = Millis(options.Get("deadAfterMs").As<Napi::Number>().Int64Value());
  return out;
}

}  // namespace nc::napi
