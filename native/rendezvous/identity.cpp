#include "rendezvous/identity.h"

#include <unistd.h>

#include "rendezvous/record.h"
#include "transport/listener.h"

namespace nc::rendezvous {

namespace {

constexpr int64_t kProtocol = 1;
constexpr const char* kHex = "0123456789abcdef";

std::string toHex(const transport::GroupToken& token) {
  std::string text;
  for (const std::byte byte : token) {
    text += kHex[std::to_integer<unsigned>(byte) >> 4];
    text += kHex[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

bool fromHex(const std::string& text, transport::GroupToken& token) {
  const std::string digits = kHex;
  if (text.size() != token.size() * 2) return false;
  for (size_t i = 0; i < token.size(); ++i) {
    const size_t high = digits.find(text[2 * i]);
    const size_t low = digits.find(text[2 * i + 1]);
    if (high == std::string::npos || low == std::string::npos) return false;
    token[i] = static_cast<std::byte>(high * 16 + low);
  }
  return true;
}

}  // namespace

std::string lineageOf(const Identity& identity, const transport::GroupToken& token) {
  // Half of it: enough to be unique, and the token itself is for members only.
  return identity.ancestry.lineage.empty() ? toHex(token).substr(0, token.size()) : identity.ancestry.lineage;
}

std::string encodeIdentity(const Identity& identity, const transport::GroupToken& token) {
  Record record;
  Ancestry ancestry = identity.ancestry;
  ancestry.lineage = lineageOf(identity, token);
  encodeAncestry(record, ancestry);
  return record.set("protocol", kProtocol)
      .set("group", identity.groupName)
      .set("job", identity.jobId)
      .set("generation", identity.generation)
      .set("size", identity.size)
      .set("token", toHex(token))
      .set("host", transport::hostName())
      .set("pid", ::getpid())
      .text();
}

bool decodeIdentity(const std::string& text, Found& found) {
  const Record record = Record::parse(text);
  if (record.number("protocol", -1) != kProtocol) return false;
  found.identity.groupName = record.get("group");
  found.identity.jobId = record.get("job");
  found.identity.generation = static_cast<uint32_t>(record.number("generation", 0));
  found.identity.size = static_cast<int>(record.number("size", 0));
  found.identity.ancestry = decodeAncestry(record);
  found.host = record.get("host");
  found.pid = record.number("pid", 0);
  return fromHex(record.get("token"), found.token);
}

std::string describe(const Found& found) {
  std::string text = "group '" + found.identity.groupName + "'";
  if (!found.identity.jobId.empty()) text += " of job '" + found.identity.jobId + "'";
  if (found.identity.generation != 0) text += ", generation " + std::to_string(found.identity.generation);
  return text + " (" + std::to_string(found.identity.size) + " ranks, hosted by pid " +
         std::to_string(found.pid) + " on " + found.host + ")";
}

}  // namespace nc::rendezvous
