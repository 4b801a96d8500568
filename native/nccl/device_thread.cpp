#include "nccl/device_thread.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/process_end.h"
#include "nccl/libraries.h"

namespace nc::nccl {

namespace {

constexpr size_t kSmallChunk = 64u << 10;
constexpr size_t kLargeChunk = 4u << 20;
constexpr std::chrono::microseconds kPollLeast{20};
constexpr std::chrono::microseconds kPollMost{1000};

}  // namespace

void DeviceThread::start() {
  thread_ = LoneThread("nc-device", [self = shared_from_this()] { self->run(); });
}

void DeviceThread::post(std::unique_ptr<DeviceWork> work) {
  {
    const std::lock_guard lock(mutex_);
    if (!closing_) {
      incoming_.push_back(std::move(work));
      changed_.notify_all();
      return;
    }
  }
  const Error closed(ErrorCode::kClosed, "the JavaScript environment is ending");
  DeviceWork& it = *work;
  it.ended(std::move(work), &closed);
}

std::shared_ptr<DeviceMemory> DeviceThread::keep(std::unique_ptr<DeviceMemory> memory) {
  {
    const std::lock_guard lock(mutex_);
    if (!freer_.started())
      freer_ = LoneThread("nc-device-free", [self = shared_from_this()] { self->freeGarbage(); });
  }
  return {memory.release(), [self = shared_from_this()](DeviceMemory* each) { self->reap(each); }};
}

void DeviceThread::reap(DeviceMemory* memory) noexcept {
  std::unique_ptr<DeviceMemory> owned(memory);
  const std::lock_guard lock(mutex_);
  if (ended_) return;  // freed here
  garbage_.push_back(std::move(owned));
  garbageChanged_.notify_all();
}

void DeviceThread::freeGarbage() {
  const LibraryInUse inUse;
  for (;;) {
    std::vector<std::unique_ptr<DeviceMemory>> garbage;
    {
      std::unique_lock lock(mutex_);
      garbageChanged_.wait(lock, [&] { return ended_ || !garbage_.empty(); });
      if (ended_) return;
      garbage.swap(garbage_);
    }
  }
}

void DeviceThread::close(Millis limit) {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    changed_.notify_all();
  }
  const Deadline until = Deadline::in(limit);
  thread_.join(limit);
  LoneThread freer;
  {
    const std::lock_guard lock(mutex_);
    freer = std::move(freer_);
  }
  freer.join(Millis{until.pollTimeout()});
}

const std::shared_ptr<DeviceRuntime>& DeviceThread::runtime() {
  if (!runtime_) {
    runtime_ = loadRuntime(options_);
    decideFirstAtExit();
  }
  return runtime_;
}

StreamHandle DeviceThread::stream(int device) {
  StreamHandle& stream = streams_[device];
  if (stream == nullptr) stream = runtime()->makeStream(device);
  return stream;
}

PinnedChunk DeviceThread::takeChunk(int device, size_t atMost) {
  const size_t bytes = atMost <= kSmallChunk ? kSmallChunk : kLargeChunk;
  const auto fits = std::find_if(chunks_.begin(), chunks_.end(), [&](const PinnedChunk& chunk) {
    return chunk.device == device && chunk.bytes == bytes;
  });
  if (fits != chunks_.end()) {
    const PinnedChunk found = *fits;
    chunks_.erase(fits);
    return found;
  }
  return {device, runtime()->allocatePinned(device, bytes), bytes};
}

void DeviceThread::run() {
  const LibraryInUse inUse;
  auto lastChange = Clock::now();
  for (;;) {
    bool closing = false;
    {
      std::unique_lock lock(mutex_);
      const auto waiting = [&] { return incoming_.empty() && !closing_; };
      if (waiting() && active_.empty()) {
        changed_.wait(lock, [&] { return !waiting(); });
      } else if (waiting()) {
        const auto age = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - lastChange);
        changed_.wait_for(lock, std::clamp(age / 8, kPollLeast, kPollMost), [&] { return !waiting(); });
      }
      if (!incoming_.empty()) lastChange = Clock::now();
      for (auto& work : incoming_) active_.push_back(std::move(work));
      incoming_.clear();
      closing = closing_;
    }
    if (closing) break;
    look();
  }
  release();
}

void DeviceThread::look() {
  std::set<const void*> busy;
  for (size_t i = 0; i < active_.size();) {
    DeviceWork& work = *active_[i];
    std::optional<Error> error;
    bool over = false;
    if (busy.count(work.key()) == 0) {
      try {
        over = work.step(*this);
      } catch (const Error& failure) {
        error = failure;
      } catch (const std::exception& failure) {
        error.emplace(ErrorCode::kInternal, std::string("the device's thread: ") + failure.what());
      }
    }
    if (error) work.stopped(*this);
    if (over || error) {
      std::unique_ptr<DeviceWork> ended = std::move(active_[i]);
      active_.erase(active_.begin() + static_cast<ptrdiff_t>(i));
      work.ended(std::move(ended), error ? &*error : nullptr);
    } else {
      busy.insert(work.key());
      ++i;
    }
  }
}

void DeviceThread::release() noexcept {
  const Error closed(ErrorCode::kClosed, "the JavaScript environment is ending");
  for (auto& work : active_) {
    DeviceWork& it = *work;
    it.stopped(*this);
    it.ended(std::move(work), &closed);
  }
  active_.clear();
  for (const auto& [device, stream] : streams_) {
    try {
      runtime_->destroyStream(device, stream);
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch): nothing is left to be done
    }
  }
  for (const PinnedChunk& chunk : chunks_) {
    try {
      runtime_->freePinned(chunk.device, chunk.host);
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch): nothing is left to be done
    }
  }
  std::vector<std::unique_ptr<DeviceMemory>> garbage;
  std::deque<std::unique_ptr<DeviceWork>> left;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    garbageChanged_.notify_all();
    garbage.swap(garbage_);
    left.swap(incoming_);
  }
  for (auto& work : left) {
    DeviceWork& it = *work;
    it.ended(std::move(work), &closed);
  }
}

}  // namespace nc::nccl
