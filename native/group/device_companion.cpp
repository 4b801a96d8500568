#include "group/device_companion.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "core/error.h"
#include "core/lone_thread.h"
#include "core/process_end.h"
#include "nccl/libraries.h"

namespace nc::group {

namespace {

constexpr const char* kId = "uniqueId";
constexpr const char* kUuid = "deviceUuid";
constexpr const char* kBusId = "deviceBusId";
constexpr const char* kIndex = "deviceIndex";
constexpr std::array<std::pair<const char*, const char*>, 2> kEqual{
    {{"library", "the collectives library"}, {"version", "its version"}}};

std::string hex(const nccl::UniqueId& id) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte each : id) {
    text += kDigits[std::to_integer<unsigned>(each) >> 4];
    text += kDigits[std::to_integer<unsigned>(each) & 15];
  }
  return text;
}

nccl::UniqueId unhex(const std::string& text) {
  nccl::UniqueId id{};
  const auto digit = [](char c) { return static_cast<unsigned>(c >= 'a' ? c - 'a' + 10 : c - '0') & 15; };
  if (text.size() != 2 * id.size()) throw Error(ErrorCode::kProtocol, "rank 0 published no unique id");
  for (size_t i = 0; i < id.size(); ++i) id[i] = std::byte(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
  return id;
}

// What a rank's driver or library says goes to all ranks, so that it has to name the rank, and fit in a line.
template <typename Body>
auto named(int rank, int device, Body body) {
  try {
    return body();
  } catch (const Error& error) {
    const bool own = error.code == ErrorCode::kBackendUnavailable || error.code == ErrorCode::kDevice ||
                     error.code == ErrorCode::kInvalidArgument || error.code == ErrorCode::kResource ||
                     error.code == ErrorCode::kUnsupported;
    if (!own || error.facts.consequence) throw;
    std::string text = "rank " + std::to_string(rank) + ", device " + std::to_string(device) + ": ";
    for (const char* at = error.what(); *at != '\0'; ++at) text += *at == '\n' ? ' ' : *at;
    ErrorFacts facts = error.facts;
    facts.rank = rank;
    facts.peer = rank;
    facts.op = "join";
    throw Error(error.code, text, facts);
  }
}

std::string factOf(const rendezvous::Member& member, const std::string& name) {
  for (const auto& [key, value] : member.companion) {
    if (key == name) return value;
  }
  return {};
}

// UUIDs are the same on no two devices in the world, bus ids on no two of a host.
std::string identityOf(const rendezvous::Member& member) {
  const std::string uuid = factOf(member, kUuid);
  return uuid.empty() ? member.endpoint.identity + factOf(member, kBusId) : uuid;
}

}  // namespace

DeviceCompanion::DeviceCompanion(DeviceOptions options, int rank, int size)
    : options_(std::move(options)), rank_(rank), size_(size) {}

// On a thread of its own: a driver takes a second to wake up, and a broken one hangs.
rendezvous::Settings DeviceCompanion::describe(const std::function<void()>& look) {
  struct Found {
    std::shared_ptr<nccl::DeviceRuntime> runtime;
    std::shared_ptr<nccl::NcclApi> api;
    nccl::DeviceInfo device;
    nccl::UniqueId id{};
  };
  const std::function<Found()> find = [options = options_, rank = rank_] {
    const LibraryInUse inUse;
    Found found;
    found.runtime = nccl::loadRuntime(options.runtime);
    found.api = nccl::loadNcclFor(*found.runtime, options.nccl);
    nccl::checkDevice(*found.runtime, options.index);
    found.device = found.runtime->describe(options.index);
    found.runtime->use(options.index);
    if (rank == 0) found.id = found.api->uniqueId();
    return found;
  };
  Found found = named(rank_, options_.index, [&] { return aside<Found>("nc-gpu-load", find, look); });
  runtime_ = std::move(found.runtime);
  api_ = std::move(found.api);
  facts_.libraryName = name(api_->flavour());
  facts_.libraryVersion = api_->versionText();
  facts_.libraryPath = api_->library().path();
  facts_.platform = name(runtime_->platform());
  facts_.device = std::move(found.device);
  rendezvous::Settings out{{"library", facts_.libraryName}, {"version", facts_.libraryVersion},
                           {"path", facts_.libraryPath},    {kIndex, std::to_string(options_.index)},
                           {kUuid, facts_.device.uuid},     {kBusId, facts_.device.busId}};
  if (rank_ == 0) out.emplace_back(kId, hex(found.id));
  return out;
}

void DeviceCompanion::check(const std::vector<rendezvous::Member>& members) {
  const rendezvous::Member& first = members.front();
  std::map<std::string, const rendezvous::Member*> devices;
  for (const rendezvous::Member& member : members) {
    for (const auto& [key, what] : kEqual) {
      const std::string expected = factOf(first, key);
      const std::string found = factOf(member, key);
      if (found == expected) continue;
      throw mismatch(member, rank_,
                     std::string("the ranks differ in ") + what + ": " + expected + " on " + who(first) +
                         " (" + factOf(first, "path") + ") and " + found + " on " + who(member) + " (" +
                         factOf(member, "path") + "); every rank needs the same");
    }
    const auto [place, added] = devices.emplace(identityOf(member), &member);
    if (added) continue;
    throw mismatch(member, rank_,
                   who(*place->second) + " and " + who(member) + " use the same device " +
                       factOf(member, kUuid) + " (" + factOf(member, kBusId) + ", device " +
                       factOf(*place->second, kIndex) + " and " + factOf(member, kIndex) +
                       "); every rank needs one of its own: set `device`, LOCAL_RANK or "
                       "CUDA_VISIBLE_DEVICES");
  }
  id_ = unhex(factOf(first, kId));
}

void DeviceCompanion::connect(const std::function<void()>& look) {
  auto communicator = std::make_unique<nccl::Communicator>(runtime_, api_, options_.index, rank_, size_);
  named(rank_, options_.index, [&] { communicator->connect(id_, look); });
  communicator_ = std::move(communicator);
}

}  // namespace nc::group
