#include "nccl/copy.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "core/deadline.h"
#include "core/error.h"

namespace nc::nccl {

namespace {
constexpr Millis kLastPiece{100};  // how long an end waits for what is under way
}

Copy::Copy(std::shared_ptr<DeviceMemory> memory, size_t offset, void* host, size_t bytes, bool toDevice,
           std::shared_ptr<DeviceStream> stream)
    : memory_(std::move(memory)),
      offset_(offset),
      host_(static_cast<std::byte*>(host)),
      bytes_(bytes),
      toDevice_(toDevice),
      stream_(std::move(stream)) {}

const void* Copy::key() const {
  static constexpr char kOwn[256] = {};
  return stream_ ? stream_->handle() : &kOwn[memory_->device() % 256];
}

bool Copy::step(DeviceThread& on) {
  if (bytes_ == 0) return true;
  DeviceRuntime& runtime = *memory_->runtime();
  const int device = memory_->device();
  if (event_ == nullptr) {
    chunk_ = on.takeChunk(device, bytes_);
    event_ = runtime.makeEvent(device);
  }
  if (underWay_ > 0) {
    if (!runtime.done(device, event_)) return false;
    if (!toDevice_) std::memcpy(host_ + done_, chunk_.host, underWay_);
    done_ += std::exchange(underWay_, 0);
  }
  if (done_ == bytes_) {
    end(on);
    return true;
  }
  const StreamHandle stream = stream_ ? stream_->handle() : on.stream(device);
  const size_t piece = std::min(bytes_ - done_, chunk_.bytes);
  const DevicePtr at = memory_->address() + offset_ + done_;
  if (toDevice_) {
    std::memcpy(chunk_.host, host_ + done_, piece);
    runtime.copyToDevice(device, at, chunk_.host, piece, stream);
  } else {
    runtime.copyToHost(device, chunk_.host, at, piece, stream);
  }
  underWay_ = piece;
  runtime.record(device, event_, stream);
  return false;
}

void Copy::end(DeviceThread& on) noexcept {
  // A piece that is still under way keeps its memory: the device may write to it.
  const Deadline limit = Deadline::in(kLastPiece);
  try {
    while (underWay_ > 0 && !limit.passed()) {
      if (memory_->runtime()->done(memory_->device(), event_)) {
        underWay_ = 0;
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds{100});
      }
    }
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): a device that has failed keeps what it has
  }
  if (chunk_.host != nullptr && underWay_ == 0) on.recycle(std::exchange(chunk_, {}));
  if (event_ == nullptr) return;
  try {
    memory_->runtime()->destroyEvent(memory_->device(), std::exchange(event_, nullptr));
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): a device that has failed keeps what it has
  }
}

}  // namespace nc::nccl
