#include "transport/describe.h"

namespace nc::transport {

std::string describe(const Member& member) {
  std::string text = "rank " + std::to_string(member.rank);
  if (member.pid != 0) text += " (pid " + std::to_string(member.pid) + " on " + member.host + ")";
  return text;
}

std::string describe(const Stamp& stamp) {
  std::string text =
      std::string(name(stamp.kind)) + "(" + name(stamp.dtype) + " x " + std::to_string(stamp.count);
  if (stamp.reduceOp != ReduceOp::kNone) text += std::string(", ") + name(stamp.reduceOp);
  if (stamp.root >= 0) {
    const bool send = stamp.kind == OpKind::kSend;
    text += send ? ", to rank " : stamp.kind == OpKind::kRecv ? ", from rank " : ", root ";
    text += std::to_string(stamp.root);
  }
  return text + (stamp.device ? ") on devices" : ")");
}

std::vector<RankCall> byRank(const RankCall& ours, const RankCall& theirs) {
  if (ours.rank < theirs.rank) return {ours, theirs};
  return {theirs, ours};
}

}  // namespace nc::transport
