#include "napi/group_report.h"

#include <chrono>
#include <string>

#include "napi/stamp.h"

namespace nc::napi {

namespace {

template <typename T>
Napi::Number number(Napi::Env env, T value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

double inMillis(Clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

Napi::Number millis(Napi::Env env, Clock::duration time) {
  return Napi::Number::New(env, inMillis(time));
}

Napi::String hex(Napi::Env env, const transport::GroupToken& token) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : token) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15u];
  }
  return Napi::String::New(env, text);
}

// The two clocks, read together.
class WallClock {
 public:
  WallClock() {
    const auto before = Clock::now();
    const auto wall = std::chrono::system_clock::now();
    steady_ = before + (Clock::now() - before) / 2;
    wall_ = std::chrono::duration<double, std::milli>(wall.time_since_epoch()).count();
  }
  Napi::Number at(Napi::Env env, Clock::time_point time) const {
    return Napi::Number::New(env, wall_ + inMillis(time - steady_));
  }

 private:
  Clock::time_point steady_;
  double wall_;
};

Napi::Object operation(Napi::Env env, const group::OperationRecord& from, const WallClock& clock) {
  Napi::Object out = Napi::Object::New(env);
  setStamp(out, from.stamp);
  out["bytes"] = number(env, from.bytes);
  if (from.path != nullptr) out["path"] = Napi::String::New(env, from.path);
  out["state"] = Napi::String::New(env, group::name(from.state));
  out["calledAt"] = clock.at(env, from.called);
  if (from.begun) out["begunAt"] = clock.at(env, *from.begun);
  if (from.ended) out["endedAt"] = clock.at(env, *from.ended);
  if (from.waited) out["waitedMs"] = millis(env, *from.waited);
  if (from.error) out["error"] = Napi::String::New(env, codeName(*from.error));
  if (!from.missing.empty()) {
    Napi::Array missing = Napi::Array::New(env, from.missing.size());
    for (uint32_t i = 0; i < from.missing.size(); ++i) missing[i] = number(env, from.missing[i]);
    out["missing"] = missing;
  }
  return out;
}

// Index and count in turn of every bucket that holds something.
Napi::Array buckets(Napi::Env env, const Histogram& histogram) {
  Napi::Array out = Napi::Array::New(env);
  uint32_t next = 0;
  for (size_t i = 0; i < Histogram::kBuckets; ++i) {
    if (histogram.counts()[i] == 0) continue;
    out[next++] = number(env, i);
    out[next++] = number(env, histogram.counts()[i]);
  }
  return out;
}

Napi::Object kindCounters(Napi::Env env, const group::KindCounters& from) {
  Napi::Object out = Napi::Object::New(env);
  out["done"] = number(env, from.latency.count());
  out["failed"] = number(env, from.failed);
  out["bytes"] = number(env, from.bytes);
  out["waitedMs"] = millis(env, from.waited);
  out["totalNs"] = number(env, from.latency.sum());
  out["maxNs"] = number(env, from.latency.max());
  out["buckets"] = buckets(env, from.latency);
  return out;
}

}  // namespace

Napi::Object groupInfo(Napi::Env env, const group::GroupInfo& info) {
  Napi::Object out = Napi::Object::New(env);
  out["token"] = hex(env, info.token);
  const rendezvous::JoinTimings& timings = info.timings;
  Napi::Object formation = Napi::Object::New(env);
  formation["foundMs"] = millis(env, timings.found);
  formation["registeredMs"] = millis(env, timings.registered);
  formation["metMs"] = millis(env, timings.met);
  formation["linkedMs"] = millis(env, timings.linked);
  formation["agreedMs"] = millis(env, timings.agreed);
  formation["devicesMs"] = millis(env, timings.companion);
  out["formation"] = formation;
  out["rank"] = Napi::Number::New(env, info.rank);
  out["size"] = Napi::Number::New(env, info.size);
  out["generation"] = Napi::Number::New(env, info.generation);
  out["lineage"] = Napi::String::New(env, info.lineage);
  out["portIndex"] = Napi::Number::New(env, static_cast<double>(info.portIndex));
  out["store"] = Napi::String::New(env, info.store);
  Napi::Array members = Napi::Array::New(env, info.members.size());
  for (uint32_t i = 0; i < info.members.size(); ++i) {
    Napi::Object member = Napi::Object::New(env);
    const group::GroupMember& from = info.members[i];
    member["rank"] = Napi::Number::New(env, from.link.rank);
    member["host"] = Napi::String::New(env, from.link.host);
    member["pid"] = Napi::Number::New(env, static_cast<double>(from.link.pid));
    member["link"] = Napi::String::New(env, from.link.address);
    member["id"] = Napi::String::New(env, from.id);
    member["address"] = Napi::String::New(env, from.address);
    member["heldPort"] = Napi::Number::New(env, from.heldPort);
    members[i] = member;
  }
  out["members"] = members;
  if (!info.device) return out;
  Napi::Object library = Napi::Object::New(env);
  library["name"] = Napi::String::New(env, info.device->libraryName);
  library["version"] = Napi::String::New(env, info.device->libraryVersion);
  library["path"] = Napi::String::New(env, info.device->libraryPath);
  out["library"] = library;
  Napi::Object device = Napi::Object::New(env);
  device["index"] = Napi::Number::New(env, info.device->device.index);
  device["name"] = Napi::String::New(env, info.device->device.name);
  device["uuid"] = Napi::String::New(env, info.device->device.uuid);
  device["platform"] = Napi::String::New(env, info.device->platform);
  out["device"] = device;
  return out;
}

Napi::Array groupOperations(Napi::Env env, const std::vector<group::OperationRecord>& operations) {
  const WallClock clock;
  Napi::Array out = Napi::Array::New(env, operations.size());
  for (uint32_t i = 0; i < operations.size(); ++i) {
    const Napi::HandleScope scope(env);
    out[i] = operation(env, operations[i], clock);
  }
  return out;
}

Napi::Object groupStats(Napi::Env env, const group::GroupStats& stats) {
  Napi::Object out = Napi::Object::New(env);
  Napi::Object kinds = Napi::Object::New(env);
  for (const auto& [kind, counters] : stats.counters.kinds) kinds[name(kind)] = kindCounters(env, counters);
  out["kinds"] = kinds;
  Napi::Object failures = Napi::Object::New(env);
  for (const auto& [code, count] : stats.counters.failures) failures[codeName(code)] = number(env, count);
  out["failures"] = failures;
  out["queued"] = number(env, stats.queued);
  out["running"] = number(env, stats.running);
  out["earlyFrames"] = number(env, stats.earlyFrames);
  Napi::Array links = Napi::Array::New(env, stats.links.size());
  for (uint32_t i = 0; i < stats.links.size(); ++i) {
    const transport::LinkCounters& from = stats.links[i];
    Napi::Object link = Napi::Object::New(env);
    link["peer"] = number(env, from.peer);
    link["framesIn"] = number(env, from.framesIn);
    link["bytesIn"] = number(env, from.bytesIn);
    link["framesOut"] = number(env, from.framesOut);
    link["bytesOut"] = number(env, from.bytesOut);
    links[i] = link;
  }
  out["links"] = links;
  const WallClock clock;
  if (stats.formed) out["formedAt"] = clock.at(env, *stats.formed);
  if (stats.failed) out["failedAt"] = clock.at(env, *stats.failed);
  return out;
}

}  // namespace nc::napi
