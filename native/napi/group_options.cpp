#include "napi/group_options.h"

#include <sys/socket.h>

#include <string>
#include <vector>

namespace nc::napi {

namespace {

std::vector<std::string> texts(Napi::Value value) {
  const auto array = value.As<Napi::Array>();
  std::vector<std::string> out;
  for (uint32_t i = 0; i < array.Length(); ++i) out.push_back(array.Get(i).As<Napi::String>().Utf8Value());
  return out;
}

// A wrong number must not cost the caller an unrelated descriptor (one of the event loop's, say), so that
// only a listening socket is taken over.
UniqueFd adopt(int fd) {
  int listening = 0;
  socklen_t length = sizeof(listening);
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0 || listening != 1) {
    ErrorFacts facts;
    facts.op = "create";
    throw Error(ErrorCode::kInvalidArgument,
                "create: descriptor " + std::to_string(fd) + " is not a listening TCP socket", facts);
  }
  return UniqueFd(fd);
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
  if (listenFd >= 0) join.listenFd = adopt(listenFd);
  join.rank = options.Get("rank").As<Napi::Number>().Int32Value();
  join.identity.size = options.Get("size").As<Napi::Number>().Int32Value();
  join.identity.groupName = options.Get("groupName").As<Napi::String>().Utf8Value();
  join.identity.jobId = options.Get("jobId").As<Napi::String>().Utf8Value();
  join.identity.generation = options.Get("generation").As<Napi::Number>().Uint32Value();
  join.allowedAddresses = texts(options.Get("allowedAddresses"));
  const std::vector<std::string> settings = texts(options.Get("settings"));
  for (size_t i = 0; i + 1 < settings.size(); i += 2)
    join.settings.emplace_back(settings[i], settings[i + 1]);
  out.initTimeout = Millis(options.Get("initTimeoutMs").As<Napi::Number>().Int64Value());
  return out;
}

Napi::Object groupInfo(Napi::Env env, const group::GroupInfo& info) {
  Napi::Object out = Napi::Object::New(env);
  out["rank"] = Napi::Number::New(env, info.rank);
  out["size"] = Napi::Number::New(env, info.size);
  out["portIndex"] = Napi::Number::New(env, static_cast<double>(info.portIndex));
  out["store"] = Napi::String::New(env, info.store);
  Napi::Array members = Napi::Array::New(env, info.members.size());
  for (uint32_t i = 0; i < info.members.size(); ++i) {
    Napi::Object member = Napi::Object::New(env);
    member["rank"] = Napi::Number::New(env, info.members[i].rank);
    member["host"] = Napi::String::New(env, info.members[i].host);
    member["pid"] = Napi::Number::New(env, static_cast<double>(info.members[i].pid));
    member["link"] = Napi::String::New(env, info.members[i].address);
    members[i] = member;
  }
  out["members"] = members;
  return out;
}

}  // namespace nc::napi
