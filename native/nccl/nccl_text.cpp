#include "nccl/nccl_text.h"

namespace nc::nccl {

const char* name(Flavour flavour) noexcept {
  return flavour == Flavour::kNccl ? "NCCL" : "RCCL";
}

std::string NcclApi::versionText() const {
  return nccl::versionText(version());
}

std::string versionText(int version) {
  const int step = version < 10000 ? 1000 : 10000;
  return std::to_string(version / step) + "." + std::to_string(version % step / 100) + "." +
         std::to_string(version % 100);
}

std::string resultName(abi::Result result) {
  switch (result) {
    case abi::kSuccess:
      return "ncclSuccess";
    case abi::kUnhandledCudaError:
      return "ncclUnhandledCudaError";
    case abi::kSystemError:
      return "ncclSystemError";
    case abi::kInternalError:
      return "ncclInternalError";
    case abi::kInvalidArgument:
      return "ncclInvalidArgument";
    case abi::kInvalidUsage:
      return "ncclInvalidUsage";
    case abi::kRemoteError:
      return "ncclRemoteError";
    case abi::kInProgress:
      return "ncclInProgress";
    case abi::kTimeout:
      return "ncclTimeout";
    default:
      return "result " + std::to_string(result);
  }
}

std::string advice(abi::Result result) {
  switch (result) {
    case abi::kUnhandledCudaError:
      return "the device or its driver failed; NCCL_DEBUG=INFO shows which call";
    case abi::kSystemError:
      return "a system call failed, often on the network or for lack of shared memory; NCCL_DEBUG=WARN shows "
             "which, NCCL_SOCKET_IFNAME chooses the interface";
    case abi::kRemoteError:
      return "another rank ended or its link broke: look for the error there first";
    case abi::kSuccess:
    case abi::kInProgress:
      return {};
    default:
      return "NCCL_DEBUG=WARN shows more";
  }
}

Known dataType(DType dtype, Flavour flavour) {
  // RCCL had its own numbers' names for the 8-bit floats, the same numbers, and had them earlier.
  const int float8 = flavour == Flavour::kNccl ? 22400 : 22000;
  switch (dtype) {
    case DType::kInt8:
      return {abi::kInt8};
    case DType::kUint8:
      return {abi::kUint8};
    case DType::kInt32:
      return {abi::kInt32};
    case DType::kUint32:
      return {abi::kUint32};
    case DType::kInt64:
      return {abi::kInt64};
    case DType::kUint64:
      return {abi::kUint64};
    case DType::kFloat16:
      return {abi::kFloat16};
    case DType::kFloat32:
      return {abi::kFloat32};
    case DType::kFloat64:
      return {abi::kFloat64};
    case DType::kBFloat16:
      return {abi::kBfloat16, 21000};
    case DType::kFloat8E4M3:
      return {abi::kFloat8E4M3, float8};
    case DType::kFloat8E5M2:
      return {abi::kFloat8E5M2, float8};
    case DType::kInt16:
    case DType::kUint16:
      break;
  }
  return {};
}

Known reduction(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return {abi::kSum};
    case ReduceOp::kProd:
      return {abi::kProd};
    case ReduceOp::kMin:
      return {abi::kMin};
    case ReduceOp::kMax:
      return {abi::kMax};
    case ReduceOp::kAvg:
      return {abi::kAvg, 21000};
    case ReduceOp::kNone:
    case ReduceOp::kBand:
    case ReduceOp::kBor:
    case ReduceOp::kBxor:
      break;
  }
  return {};
}

}  // namespace nc::nccl
