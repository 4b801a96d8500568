#include "gloo/collectives.h"

#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/broadcast.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "core/error.h"
#include "gloo/transport_adapter.h"

namespace nc::gloo {
namespace {

// Accumulators of AVG that are held at a time: an average of a large array needs no copy eight times its
// size.
constexpr size_t kAverageBytes = size_t{4} << 20;
// Pieces in which the ring passes its share on, two of them in flight.
constexpr size_t kSegmentBytes = size_t{1} << 20;

// Gloo takes the size of an element from a type.
template <size_t kBytes>
struct Element {
  std::byte bytes[kBytes];
};

template <typename Body>
void withElement(size_t bytes, Body body) {
  switch (bytes) {
    case 1:
      return body(Element<1>{});
    case 2:
      return body(Element<2>{});
    case 4:
      return body(Element<4>{});
    case 8:
      return body(Element<8>{});
    case 16:
      return body(Element<16>{});
    default:
      throw Error(ErrorCode::kInternal, "element size " + std::to_string(bytes));
  }
}

void copy(void* to, const void* from, size_t bytes) {
  if (bytes > 0 && to != from) std::memmove(to, from, bytes);
}

Error invalid(const std::string& message, const Stamp& stamp) {
  ErrorFacts facts;
  facts.op = name(stamp.kind);
  return Error(ErrorCode::kInvalidArgument, message, std::move(facts));
}

}  // namespace

Collectives::Collectives(transport::Mesh& mesh, CollectiveLimits limits)
    : mesh_(mesh), limits_(limits), small_(mesh), context_(makeContext(mesh)) {}

Collectives::~Collectives() = default;

void Collectives::run(const Call& call) {
  path_ = nullptr;
  check(call);
  if (mesh_.size() == 1) return alone(call);
  try {
    mesh_.begin(call.stamp, call.deadline);
    dispatch(call);
    mesh_.end();
  } catch (const Error& error) {
    if (!mesh_.failed()) mesh_.fail(error);
    throw;
  } catch (const std::bad_alloc&) {
    giveUp(Error(ErrorCode::kResource, std::string("no memory for ") + name(call.stamp.kind)));
  } catch (const std::exception& unexpected) {  // Gloo's own assertions
    giveUp(Error(ErrorCode::kInternal, std::string("Gloo: ") + unexpected.what()));
  }
}

void Collectives::giveUp(Error cause) {
  if (!mesh_.failed()) mesh_.fail(cause);
  throw Error(std::move(cause));
}

void Collectives::check(const Call& call) const {
  const Stamp& stamp = call.stamp;
  widening(stamp.dtype);  // throws for an unknown type, which no frame can carry either
  if (stamp.kind == OpKind::kBarrier) return;
  const size_t element = elementSize(stamp.dtype);
  const uint64_t most = transport::kMaxDataBytes / element / static_cast<uint64_t>(mesh_.size());
  if (stamp.count > most) throw invalid("more data than a frame can carry", stamp);
  if (stamp.count > 0 && call.out == nullptr) throw invalid("no output memory", stamp);
  const bool reads = stamp.kind != OpKind::kBroadcast || stamp.root == mesh_.rank();
  if (stamp.count > 0 && reads && call.in == nullptr) throw invalid("no input memory", stamp);
  if (stamp.kind == OpKind::kBroadcast && (stamp.root < 0 || stamp.root >= mesh_.size())) {
    throw invalid("no rank " + std::to_string(stamp.root), stamp);
  }
  if (stamp.kind == OpKind::kAllReduce && stamp.reduceOp != ReduceOp::kAvg) {
    reduceFunction(stamp.dtype, stamp.reduceOp);  // throws for what is not defined
  }
}

void Collectives::alone(const Call& call) {
  path_ = "alone";
  if (call.stamp.kind == OpKind::kBarrier) return;
  copy(call.out, call.in, call.stamp.count * elementSize(call.stamp.dtype));
}

void Collectives::dispatch(const Call& call) {
  // With nothing to move, the ranks still meet and compare their calls.
  if (call.stamp.kind == OpKind::kBarrier || call.stamp.count == 0) {
    path_ = "dissemination";
    return small_.barrier(call.firstSent);
  }
  switch (call.stamp.kind) {
    case OpKind::kAllReduce:
      return call.stamp.reduceOp == ReduceOp::kAvg ? average(call) : allReduce(call);
    case OpKind::kBroadcast:
      return broadcast(call);
    case OpKind::kAllGather:
      return allGather(call);
    case OpKind::kBarrier:
      return;
    default:
      throw Error(ErrorCode::kInternal, std::string(name(call.stamp.kind)) + " is not known here");
  }
}

std::optional<FirstMessage> Collectives::firstMessage(const Stamp& stamp) const {
  if (stamp.kind == OpKind::kBarrier || stamp.count == 0) return small_.firstOfBarrier();
  if (stamp.kind != OpKind::kAllReduce || stamp.count * elementSize(stamp.dtype) > limits_.smallReduce) {
    return std::nullopt;
  }
  if (stamp.reduceOp == ReduceOp::kAvg && !widening(stamp.dtype).same) return std::nullopt;
  return small_.firstOfAllReduce();
}

// From `in` to `out`, which may be the same.
void Collectives::reduceAll(const void* in, void* out, size_t count, size_t elementBytes, ReduceFn reduce,
                            bool firstSent) {
  const size_t bytes = count * elementBytes;
  if (bytes <= limits_.smallReduce) {
    path_ = "recursive doubling";
    copy(out, in, bytes);
    return small_.allReduce(out, scratch(bytes), count, elementBytes, reduce, firstSent);
  }
  path_ = "gloo ring";
  withElement(elementBytes, [&]<typename T>(T) {
    ::gloo::AllreduceOptions options(context_);
    if (in != out) options.setInput(static_cast<T*>(const_cast<void*>(in)), count);
    options.setOutput(static_cast<T*>(out), count);
    options.setAlgorithm(::gloo::AllreduceOptions::Algorithm::RING);
    options.setReduceFunction(reduce);
    options.setMaxSegmentSize(kSegmentBytes);
    options.setTimeout(::gloo::transport::kUnsetTimeout);
    ::gloo::allreduce(options);
  });
}

void Collectives::allReduce(const Call& call) {
  const Stamp& stamp = call.stamp;
  reduceAll(call.in, call.out, stamp.count, elementSize(stamp.dtype),
            reduceFunction(stamp.dtype, stamp.reduceOp), call.firstSent);
}

void Collectives::average(const Call& call) {
  const Widening wide = widening(call.stamp.dtype);
  const size_t element = elementSize(call.stamp.dtype);
  const size_t count = call.stamp.count;
  if (wide.same) {
    reduceAll(call.in, call.out, count, element, wide.reduce, call.firstSent);
    return wide.narrow(call.out, call.out, count, mesh_.size());
  }
  // One scratch for both the accumulators and, behind them, what the small path receives.
  const size_t block = std::min(count, kAverageBytes / wide.bytes);
  const size_t bytes = block * wide.bytes;
  const bool small = bytes <= limits_.smallReduce;
  std::vector<std::byte> large(small ? 0 : bytes);
  std::byte* const sums = small ? scratch(2 * bytes) : large.data();
  const auto* in = static_cast<const std::byte*>(call.in);
  auto* out = static_cast<std::byte*>(call.out);
  for (size_t at = 0; at < count; at += block) {
    const size_t n = std::min(block, count - at);
    wide.widen(sums, in + at * element, n);
    if (small) {
      path_ = "recursive doubling";
      small_.allReduce(sums, sums + bytes, n, wide.bytes, wide.reduce);
    } else {
      reduceAll(sums, sums, n, wide.bytes, wide.reduce, false);
    }
    wide.narrow(out + at * element, sums, n, mesh_.size());
  }
}

void Collectives::broadcast(const Call& call) {
  path_ = "gloo tree";
  const size_t bytes = call.stamp.count * elementSize(call.stamp.dtype);
  ::gloo::BroadcastOptions options(context_);
  if (call.stamp.root == mesh_.rank() && call.in != call.out) {
    options.setInput(static_cast<std::byte*>(const_cast<void*>(call.in)), bytes);
  }
  options.setOutput(static_cast<std::byte*>(call.out), bytes);
  options.setRoot(call.stamp.root);
  options.setTimeout(::gloo::transport::kUnsetTimeout);
  ::gloo::broadcast(options);
}

void Collectives::allGather(const Call& call) {
  const size_t bytes = call.stamp.count * elementSize(call.stamp.dtype);
  const size_t total = bytes * static_cast<size_t>(mesh_.size());
  copy(static_cast<std::byte*>(call.out) + static_cast<size_t>(mesh_.rank()) * bytes, call.in, bytes);
  if (total <= limits_.smallGather) {
    path_ = "direct";
    return small_.allGather(call.out, bytes);
  }
  path_ = "gloo ring";
  ::gloo::AllgatherOptions options(context_);
  options.setOutput(static_cast<std::byte*>(call.out), total);
  options.setTimeout(::gloo::transport::kUnsetTimeout);
  ::gloo::allgather(options);
}

std::byte* Collectives::scratch(size_t bytes) {
  if (scratch_.size() < bytes) scratch_.resize(bytes);
  return scratch_.data();
}

}  // namespace nc::gloo
