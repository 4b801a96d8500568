// One collective operation as every rank must call it, and its names.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nc {

enum class OpKind : uint8_t {
  kAllReduce = 1,
  kBroadcast,
  kAllGather,
  kBarrier,
  kReduce,
  kReduceScatter,
  kAllToAll,
  kSend,
  kRecv,
};
inline constexpr OpKind kLastOpKind = OpKind::kRecv;

enum class DType : uint8_t {
  kInt8 = 1,
  kUint8,
  kInt16,
  kUint16,
  kInt32,
  kUint32,
  kInt64,
  kUint64,
  kFloat16,
  kBFloat16,
  kFloat32,
  kFloat64,
  // On the CPU these are moved only: no reduction is defined there.
  kFloat8E4M3,
  kFloat8E5M2,
};
inline constexpr DType kLastDType = DType::kFloat8E5M2;

enum class ReduceOp : uint8_t { kNone = 0, kSum, kProd, kMin, kMax, kAvg, kBand, kBor, kBxor };

// Messages between two ranks, which are no calls of all ranks and are numbered for each direction by
// themselves; those of devices apart from those of the CPUs.
constexpr bool isMessage(OpKind kind) noexcept {
  return kind == OpKind::kSend || kind == OpKind::kRecv;
}

const char* name(OpKind kind) noexcept;
const char* name(DType dtype) noexcept;
const char* name(ReduceOp op) noexcept;
size_t elementSize(DType dtype) noexcept;
bool isFloat(DType dtype) noexcept;

// What has to be the same on all ranks. It travels in every frame, so that calls which do not match are found
// on arrival.
struct Stamp {
  uint64_t seq = 0;  // number of the operation within its group, from 1
  OpKind kind{};
  DType dtype{};
  ReduceOp reduceOp{};
  int32_t root = -1;    // broadcast's source rank, reduce's target, the other rank of send and recv; else -1
  uint64_t count = 0;   // elements: of the array, or of one rank's block (see gloo::Call)
  bool device = false;  // it runs on the ranks' devices

  bool operator==(const Stamp&) const = default;
};

constexpr bool isMessage(const Stamp& stamp) noexcept {
  return isMessage(stamp.kind);
}

}  // namespace nc
