// The part of NCCL's interface that we call, declared by us; RCCL's is the same. Constants and fields bear
// the name they have in nccl.h beside them, with the version that brought them: scripts/check-abi.mjs reads
// both and compares all of it with the real headers.
#pragma once

#include <climits>
#include <cstddef>

namespace nc::nccl::abi {

using Result = int;    // ncclResult_t
using DataType = int;  // ncclDataType_t
using RedOp = int;     // ncclRedOp_t
using Comm = struct ncclComm*;
using Stream = void*;  // cudaStream_t, hipStream_t

inline constexpr size_t kIdBytes = 128;  // NCCL_UNIQUE_ID_BYTES
struct Id {                              // ncclUniqueId
  char internal[kIdBytes];
};

inline constexpr Result kSuccess = 0;             // ncclSuccess
inline constexpr Result kUnhandledCudaError = 1;  // ncclUnhandledCudaError
inline constexpr Result kSystemError = 2;         // ncclSystemError
inline constexpr Result kInternalError = 3;       // ncclInternalError
inline constexpr Result kInvalidArgument = 4;     // ncclInvalidArgument
inline constexpr Result kInvalidUsage = 5;        // ncclInvalidUsage
inline constexpr Result kRemoteError = 6;         // ncclRemoteError since 2.13
inline constexpr Result kInProgress = 7;          // ncclInProgress since 2.14
inline constexpr Result kTimeout = 8;             // ncclTimeout since 2.30

inline constexpr RedOp kSum = 0;   // ncclSum
inline constexpr RedOp kProd = 1;  // ncclProd
inline constexpr RedOp kMax = 2;   // ncclMax
inline constexpr RedOp kMin = 3;   // ncclMin
inline constexpr RedOp kAvg = 4;   // ncclAvg since 2.10

inline constexpr DataType kInt8 = 0;         // ncclInt8
inline constexpr DataType kUint8 = 1;        // ncclUint8
inline constexpr DataType kInt32 = 2;        // ncclInt32
inline constexpr DataType kUint32 = 3;       // ncclUint32
inline constexpr DataType kInt64 = 4;        // ncclInt64
inline constexpr DataType kUint64 = 5;       // ncclUint64
inline constexpr DataType kFloat16 = 6;      // ncclFloat16
inline constexpr DataType kFloat32 = 7;      // ncclFloat32
inline constexpr DataType kFloat64 = 8;      // ncclFloat64
inline constexpr DataType kBfloat16 = 9;     // ncclBfloat16 since 2.10
inline constexpr DataType kFloat8E4M3 = 10;  // ncclFloat8e4m3 since 2.24
inline constexpr DataType kFloat8E5M2 = 11;  // ncclFloat8e5m2 since 2.24

inline constexpr unsigned kConfigMagic = 0xcafebeef;  // NCCL_API_MAGIC since 2.29
inline constexpr int kUndefined = INT_MIN;            // NCCL_CONFIG_UNDEF_INT since 2.17

// Grows with the library, at its end only. The library takes `size` bytes of it and reads the fields that
// `version` had.
struct Config {  // ncclConfig_t since 2.14
  size_t size = 0;
  unsigned magic = kConfigMagic;
  unsigned version = 0;
  int blocking = kUndefined;
  int cgaClusterSize = kUndefined;       // since 2.17
  int minCTAs = kUndefined;              // since 2.17
  int maxCTAs = kUndefined;              // since 2.17
  const char* netName = nullptr;         // since 2.17
  int splitShare = kUndefined;           // since 2.18
  int trafficClass = kUndefined;         // since 2.26
  const char* commName = nullptr;        // since 2.27
  int collnetEnable = kUndefined;        // since 2.27
  int CTAPolicy = kUndefined;            // since 2.27
  int shrinkShare = kUndefined;          // since 2.27
  int nvlsCTAs = kUndefined;             // since 2.27
  int nChannelsPerNetPeer = kUndefined;  // since 2.28
  int nvlinkCentricSched = kUndefined;   // since 2.28
  int graphUsageMode = kUndefined;       // since 2.29
  int numRmaCtx = kUndefined;            // since 2.29
  int maxP2pPeers = kUndefined;          // since 2.30
  int graphStreamOrdering = kUndefined;  // since 2.30.5
};

// Functions.
namespace fn {
using ncclGetVersion = Result(int* version);  // since 2.3
using ncclGetUniqueId = Result(Id* id);
using ncclGetErrorString = const char*(Result result);
using ncclGetLastError = const char*(Comm comm);  // since 2.13
using ncclCommInitRank = Result(Comm* comm, int size, Id id, int rank);
using ncclCommInitRankConfig = Result(Comm* comm, int size, Id id, int rank, Config* config);  // since 2.14
using ncclCommGetAsyncError = Result(Comm comm, Result* error);                                // since 2.4
using ncclCommFinalize = Result(Comm comm);                                                    // since 2.14
using ncclCommDestroy = Result(Comm comm);
using ncclCommAbort = Result(Comm comm);  // since 2.4
using ncclGroupStart = Result();
using ncclGroupEnd = Result();
using ncclAllReduce = Result(const void* in, void* out, size_t count, DataType type, RedOp op, Comm comm,
                             Stream stream);
using ncclReduce = Result(const void* in, void* out, size_t count, DataType type, RedOp op, int root,
                          Comm comm, Stream stream);
using ncclReduceScatter = Result(const void* in, void* out, size_t outCount, DataType type, RedOp op,
                                 Comm comm, Stream stream);
using ncclBroadcast = Result(const void* in, void* out, size_t count, DataType type, int root, Comm comm,
                             Stream stream);
using ncclAllGather = Result(const void* in, void* out, size_t inCount, DataType type, Comm comm,
                             Stream stream);
using ncclSend = Result(const void* in, size_t count, DataType type, int peer, Comm comm,
                        Stream stream);  // since 2.7
using ncclRecv = Result(void* out, size_t count, DataType type, int peer, Comm comm,
                        Stream stream);  // since 2.7
}  // namespace fn

}  // namespace nc::nccl::abi
