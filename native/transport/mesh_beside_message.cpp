// Messages between the devices of two ranks. They move beside the mesh, without numbers or tags, so each of
// the two tells the other what it has called: the n-th that is sent has to be the n-th that is received.
#include <algorithm>

#include "transport/comparison.h"
#include "transport/describe.h"
#include "transport/link.h"
#include "transport/mesh.h"

namespace nc::transport {

namespace {

// How many calls of the other rank are kept that this one has not made. A device takes a message of no bytes,
// and maybe a small one, without its receiver; what is further ahead is not compared.
constexpr size_t kKept = 1024;

bool equal(const DeviceMessages::Called& a, const DeviceMessages::Called& b) {
  return a.stamp.dtype == b.stamp.dtype && a.stamp.count == b.stamp.count && a.tag == b.tag;
}

}  // namespace

const DeviceMessages& Mesh::deviceMessages(const Stamp& message) const {
  const Link& link = *links_[static_cast<size_t>(message.root)];
  return message.kind == OpKind::kSend ? link.deviceSends : link.deviceReceives;
}

bool Mesh::met(const Stamp& message) const {
  return !kComparesCalls || deviceMessages(message).announced >= message.seq;
}

void Mesh::announceMessage(const Stamp& stamp, uint64_t tag) {
  if (failure_) throw Error(*failure_);
  if constexpr (!kComparesCalls) return;
  Link& link = *links_[static_cast<size_t>(stamp.root)];
  DeviceMessages& messages = stamp.kind == OpKind::kSend ? link.deviceSends : link.deviceReceives;
  const DeviceMessages::Called called{stamp, tag};
  if (!met(stamp)) {
    checkReachable(stamp);
    messages.ours.push_back(called);
  } else if (!messages.theirs.empty() && messages.theirs.front().stamp.seq == stamp.seq) {
    const DeviceMessages::Called theirs = messages.theirs.front();
    messages.theirs.pop_front();
    if (!equal(called, theirs)) failAndThrow(differs(link, stamp, tag, theirs.stamp, theirs.tag));
  }
  if (link.open() && !link.goodbye) control(link, FrameKind::kCalled, stamp, {}, tag);
}

void Mesh::messageCalled(Link& link, const FrameHeader& header) {
  const Stamp& theirs = header.stamp;
  DeviceMessages& messages = theirs.kind == OpKind::kSend ? link.deviceReceives : link.deviceSends;
  if (!theirs.device || theirs.root != rank_ || theirs.seq != messages.announced + 1) {
    throw Error(ErrorCode::kProtocol,
                describe(link.member()) + " told of message " + std::to_string(theirs.seq) + ", " +
                    describe(theirs) + ", where its call of message " +
                    std::to_string(messages.announced + 1) + " between the devices of these two was due");
  }
  messages.announced = theirs.seq;
  const DeviceMessages::Called called{theirs, header.slot};
  if (messages.ours.empty()) {
    if (messages.theirs.size() < kKept) messages.theirs.push_back(called);
    return;
  }
  const DeviceMessages::Called ours = messages.ours.front();
  messages.ours.pop_front();
  if (!equal(ours, called)) throw differs(link, ours.stamp, ours.tag, theirs, header.slot);
}

void Mesh::failLateBeside(const Stamp& message, const Deadline& limit) {
  ErrorFacts more = factsOf(message);
  more.missing = missing(message);
  std::string text = "message " + std::to_string(message.seq) + ", " + describe(message) +
                     ", was not complete within " + std::to_string(limit.limit().count()) + " ms; " +
                     describe(member(message.root));
  if (more.missing.empty()) {
    text += " has called its part, and one of the two devices has not come to it";
  } else {
    text += message.kind == OpKind::kSend ? " has not called its recv" : " has not called its send";
  }
  failAndThrow(Error(ErrorCode::kTimeout, text, more));
}

}  // namespace nc::transport
