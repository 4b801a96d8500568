// The part of the CUDA driver's interface that we call, declared by us. Constants bear the name they have in
// cuda.h beside them, and functions their symbol's (with the _v2 that cuda.h adds by macro):
// scripts/check-abi.mjs reads both and compares all of it with the real header.
#pragma once

#include <cstddef>

namespace nc::nccl::cuda {

using Result = int;                  // CUresult
using Device = int;                  // CUdevice
using Pointer = unsigned long long;  // CUdeviceptr
using Context = struct CUctx_st*;
using Stream = struct CUstream_st*;
using Event = struct CUevent_st*;
using Attribute = int;  // CUpointer_attribute

struct Uuid {  // CUuuid
  char bytes[16];
};

inline constexpr Result kSuccess = 0;                    // CUDA_SUCCESS
inline constexpr Result kOutOfMemory = 2;                // CUDA_ERROR_OUT_OF_MEMORY
inline constexpr Result kStubLibrary = 34;               // CUDA_ERROR_STUB_LIBRARY
inline constexpr Result kDeviceUnavailable = 46;         // CUDA_ERROR_DEVICE_UNAVAILABLE
inline constexpr Result kNoDevice = 100;                 // CUDA_ERROR_NO_DEVICE
inline constexpr Result kInvalidDevice = 101;            // CUDA_ERROR_INVALID_DEVICE
inline constexpr Result kInvalidContext = 201;           // CUDA_ERROR_INVALID_CONTEXT
inline constexpr Result kEccUncorrectable = 214;         // CUDA_ERROR_ECC_UNCORRECTABLE
inline constexpr Result kOperatingSystem = 304;          // CUDA_ERROR_OPERATING_SYSTEM
inline constexpr Result kNotReady = 600;                 // CUDA_ERROR_NOT_READY
inline constexpr Result kIllegalAddress = 700;           // CUDA_ERROR_ILLEGAL_ADDRESS
inline constexpr Result kSystemNotReady = 802;           // CUDA_ERROR_SYSTEM_NOT_READY
inline constexpr Result kSystemDriverMismatch = 803;     // CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
inline constexpr Result kCompatNotSupported = 804;       // CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE
inline constexpr unsigned kStreamNonBlocking = 1;        // CU_STREAM_NON_BLOCKING
inline constexpr unsigned kEventDisableTiming = 2;       // CU_EVENT_DISABLE_TIMING
inline constexpr unsigned kHostPortable = 1;             // CU_MEMHOSTALLOC_PORTABLE
inline constexpr Attribute kAttributeMemoryType = 2;     // CU_POINTER_ATTRIBUTE_MEMORY_TYPE
inline constexpr Attribute kAttributeDeviceOrdinal = 9;  // CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
inline constexpr Attribute kAttributeRangeStart = 11;    // CU_POINTER_ATTRIBUTE_RANGE_START_ADDR
inline constexpr Attribute kAttributeRangeSize = 12;     // CU_POINTER_ATTRIBUTE_RANGE_SIZE
inline constexpr unsigned kMemoryDevice = 2;             // CU_MEMORYTYPE_DEVICE

// Functions.
namespace fn {
using cuInit = Result(unsigned flags);
using cuDriverGetVersion = Result(int* version);
using cuGetErrorName = Result(Result error, const char** name);
using cuGetErrorString = Result(Result error, const char** text);
using cuDeviceGetCount = Result(int* count);
using cuDeviceGet = Result(Device* device, int ordinal);
using cuDeviceGetName = Result(char* name, int bytes, Device device);
using cuDeviceGetUuid = Result(Uuid* uuid, Device device);
using cuDeviceGetUuid_v2 = Result(Uuid* uuid, Device device);
using cuDeviceGetPCIBusId = Result(char* busId, int bytes, Device device);
using cuDeviceTotalMem_v2 = Result(size_t* bytes, Device device);
using cuDeviceCanAccessPeer = Result(int* can, Device device, Device peer);
using cuDevicePrimaryCtxRetain = Result(Context* context, Device device);
using cuCtxSetCurrent = Result(Context context);
using cuMemAlloc_v2 = Result(Pointer* memory, size_t bytes);
using cuMemFree_v2 = Result(Pointer memory);
using cuMemHostAlloc = Result(void** memory, size_t bytes, unsigned flags);
using cuMemFreeHost = Result(void* memory);
using cuPointerGetAttribute = Result(void* value, Attribute attribute, Pointer memory);
using cuStreamCreate = Result(Stream* stream, unsigned flags);
using cuStreamDestroy_v2 = Result(Stream stream);
using cuStreamQuery = Result(Stream stream);
using cuStreamWaitEvent = Result(Stream stream, Event event, unsigned flags);
using cuEventCreate = Result(Event* event, unsigned flags);
using cuEventDestroy_v2 = Result(Event event);
using cuEventRecord = Result(Event event, Stream stream);
using cuEventQuery = Result(Event event);
using cuMemcpyHtoDAsync_v2 = Result(Pointer to, const void* from, size_t bytes, Stream stream);
using cuMemcpyDtoHAsync_v2 = Result(void* to, Pointer from, size_t bytes, Stream stream);
using cuMemcpyDtoDAsync_v2 = Result(Pointer to, Pointer from, size_t bytes, Stream stream);
}  // namespace fn

}  // namespace nc::nccl::cuda
