// NCCL and RCCL behind one interface, loaded at run time. RCCL has NCCL's functions under the same names.
//
// Threads: as NCCL says. One thread at a time works on a communicator; abort() alone may come from another
// while a call on it blocks. Failures are Error(kDevice) with NCCL's name for the result,
// ncclGetLastError()'s text where the library has it, and advice; a function, data type or reduction that the
// loaded version lacks is Error(kUnsupported): "…: unsupported by NCCL 2.9".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/operation.h"
#include "nccl/device_runtime.h"
#include "nccl/shared_library.h"

namespace nc::nccl {

inline constexpr size_t kUniqueIdBytes = 128;
using UniqueId = std::array<std::byte, kUniqueIdBytes>;
using CommHandle = void*;  // ncclComm_t

enum class Flavour { kNccl, kRccl };
const char* name(Flavour flavour) noexcept;  // "NCCL", "RCCL"

class NcclApi {
 public:
  virtual ~NcclApi() = default;

  virtual Flavour flavour() const = 0;
  virtual const SharedLibrary& library() const = 0;
  virtual int version() const = 0;  // ncclGetVersion()'s number, e.g. 22203
  std::string versionText() const;  // "2.22.3"

  virtual UniqueId uniqueId() = 0;
  // Non-blocking (config.blocking = 0) where the library can: returns at once, and state() says when it is
  // made. The device must be current on this thread. Older libraries (before 2.14) block here; their caller
  // must be able to abandon the thread.
  virtual CommHandle init(int size, const UniqueId& id, int rank) = 0;
  virtual bool initBlocks() const = 0;
  // True once the last call on it is complete, false while it is in progress; throws the communicator's
  // asynchronous error.
  virtual bool ready(CommHandle comm) = 0;
  virtual void finalize(CommHandle comm) = 0;  // begins; ready() tells the end. A no-op before 2.14.
  virtual void destroy(CommHandle comm) = 0;
  virtual void abort(CommHandle comm) = 0;  // may block for ever in a broken library

  // Between these, calls on one communicator are one operation; see ncclGroupStart().
  virtual void groupStart() = 0;
  virtual void groupEnd() = 0;

  // Throw kInvalidArgument where NCCL defines no such type or reduction at all (16-bit integers to be
  // reduced, bitwise operations), kUnsupported where only this version does not. 16-bit integers can be
  // moved: they travel as bytes.
  virtual void checkReduction(DType dtype, ReduceOp op) const = 0;
  virtual void checkType(DType dtype) const = 0;

  virtual void allReduce(DevicePtr in, DevicePtr out, size_t count, DType dtype, ReduceOp op, CommHandle comm,
                         StreamHandle stream) = 0;
  virtual void reduce(DevicePtr in, DevicePtr out, size_t count, DType dtype, ReduceOp op, int root,
                      CommHandle comm, StreamHandle stream) = 0;
  virtual void reduceScatter(DevicePtr in, DevicePtr out, size_t outCount, DType dtype, ReduceOp op,
                             CommHandle comm, StreamHandle stream) = 0;
  virtual void broadcast(DevicePtr in, DevicePtr out, size_t count, DType dtype, int root, CommHandle comm,
                         StreamHandle stream) = 0;
  virtual void allGather(DevicePtr in, DevicePtr out, size_t inCount, DType dtype, CommHandle comm,
                         StreamHandle stream) = 0;
  virtual void send(DevicePtr in, size_t count, DType dtype, int peer, CommHandle comm,
                    StreamHandle stream) = 0;
  virtual void recv(DevicePtr out, size_t count, DType dtype, int peer, CommHandle comm,
                    StreamHandle stream) = 0;
};

struct NcclOptions {
  std::string path;  // an explicit file; else NODE_COLLECTIVES_NCCL_PATH, VLLM_NCCL_SO_PATH, the loader, pip
};

// The flavour follows the device: NCCL for CUDA, RCCL for ROCm. Throws kBackendUnavailable with every
// attempt.
std::shared_ptr<NcclApi> loadNccl(Flavour flavour, const NcclOptions& options,
                                  std::vector<LoadAttempt>* attempts = nullptr);

}  // namespace nc::nccl
