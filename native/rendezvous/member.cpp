#include "rendezvous/member.h"

#include <netinet/in.h>
#include <unistd.h>

#include <string>

#include "core/error.h"
#include "rendezvous/identity.h"
#include "rendezvous/record.h"

namespace nc::rendezvous {

namespace {

constexpr Millis kTellLimit{200};
constexpr const char* kSettingPrefix = "setting.";
constexpr const char* kCompanionPrefix = "companion.";

}  // namespace

std::string who(const Member& member) {
  return "rank " + std::to_string(member.endpoint.rank) + " (pid " + std::to_string(member.endpoint.pid) +
         " on " + member.endpoint.host + ")";
}

Error mismatch(const Member& other, int rank, const std::string& text) {
  ErrorFacts facts;
  facts.rank = rank;
  facts.peer = other.endpoint.rank;
  facts.peerHost = other.endpoint.host;
  facts.peerPid = other.endpoint.pid;
  facts.op = "join";
  return Error(ErrorCode::kGroupMismatch, text, facts);
}

namespace {

std::string settingOf(const Member& member, const std::string& name) {
  for (const auto& [key, value] : member.settings) {
    if (key == name) return value;
  }
  return "(absent)";
}

}  // namespace

std::string encodeMember(const Member& member, const transport::Listener& listener) {
  Record record;
  record.set("rank", member.endpoint.rank)
      .set("id", member.id)
      .set("held", member.heldPort)
      .set("pid", ::getpid())
      .set("host", transport::hostName())
      .set("identity", transport::hostIdentity())
      .set("local", listener.localName)
      .set("address", listener.address.host())
      .set("port", listener.address.port());
  for (const auto& [name, value] : member.settings) record.set(kSettingPrefix + name, value);
  for (const auto& [name, value] : member.companion) record.set(kCompanionPrefix + name, value);
  return record.text();
}

Member decodeMember(int rank, const std::string& text) {
  const Record record = Record::parse(text);
  Member member;
  member.endpoint.rank = rank;
  member.id = record.get("id");
  member.heldPort = static_cast<uint16_t>(record.number("held", 0));
  member.endpoint.pid = record.number("pid", 0);
  member.endpoint.host = record.get("host");
  member.endpoint.identity = record.get("identity");
  member.endpoint.localName = record.get("local");
  member.endpoint.address = record.get("address");
  member.endpoint.port = static_cast<uint16_t>(record.number("port", 0));
  const auto keep = [](const std::string& prefix, const auto& entry, Settings& in) {
    if (entry.first.compare(0, prefix.size(), prefix) == 0)
      in.emplace_back(entry.first.substr(prefix.size()), entry.second);
  };
  for (const auto& entry : record.values()) {
    keep(kSettingPrefix, entry, member.settings);
    keep(kCompanionPrefix, entry, member.companion);
  }
  return member;
}

bool isThisProcess(const Member& member) {
  return member.endpoint.pid == ::getpid() && member.endpoint.identity == transport::hostIdentity();
}

void checkMembers(const std::vector<Member>& members, int rank) {
  const Member& first = members.front();
  for (const Member& other : members) {
    for (const Member* side : {&first, &other}) {
      for (const auto& [name, value] : side->settings) {
        const std::string mine = settingOf(first, name);
        const std::string theirs = settingOf(other, name);
        if (mine == theirs) continue;
        throw mismatch(other, rank,
                       "the ranks are configured differently: " + name + " is " + mine + " on " + who(first) +
                           " and " + theirs + " on " + who(other));
      }
    }
  }
  for (const Member& member : members) {
    if (!SocketAddress::parse(member.endpoint.address, 0).isLoopback()) continue;
    for (const Member& other : members) {
      if (other.endpoint.identity == member.endpoint.identity) continue;
      throw mismatch(
          member, rank,
          who(member) + " is reached at the loopback address " + member.endpoint.address + ", but " +
              who(other) +
              " is on another host; give a master address that all hosts reach, or name the interface in "
              "GLOO_SOCKET_IFNAME");
    }
  }
}

bool isWildcard(const SocketAddress& address) {
  if (address.family() == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr.s_addr == htonl(INADDR_ANY);
  }
  return address.family() == AF_INET6 &&
         IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr);
}

SocketAddress permitted(const SocketAddress& local, const std::vector<std::string>& allowed, int rank) {
  if (allowed.empty()) return local;
  for (const std::string& host : allowed) {
    if (SocketAddress::parse(host, 0).host() == local.host()) return local;
  }
  for (const std::string& host : allowed) {
    const SocketAddress address = SocketAddress::parse(host, 0);
    if (address.family() == local.family()) return address;
  }
  ErrorFacts facts;
  facts.rank = rank;
  facts.op = "join";
  throw Error(
      ErrorCode::kAddressUnavailable,
      "the interfaces named in GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME have no address of the family of " +
          local.host(),
      facts);
}

void tellRefused(store::Client& client, int rank, const std::string& reason, Cancel& cancel) {
  try {
    const std::string key = kRefusedPrefix + transport::hostName() + "/" + std::to_string(::getpid()) + "/" +
                            std::to_string(rank);
    const std::string text = Record()
                                 .set("rank", rank)
                                 .set("pid", ::getpid())
                                 .set("host", transport::hostName())
                                 .set("reason", reason)
                                 .text();
    const Deadline limit = Deadline::in(kTellLimit);
    client.set(key, text, limit, &cancel);
    client.sync(limit, &cancel);
  } catch (const Error&) {
    // Being refused is what matters; that the host hears of it is a courtesy.
  }
}

}  // namespace nc::rendezvous
