// Which ranks have been silent for too long. Counts only time in which this rank's own thread was watching:
// one that was stopped itself, or busy with something else, must not accuse others of its own absence.
//
// Belongs to the group's thread, which calls sample() after it has read all there was to read.
#pragma once

#include <cstdint>
#include <vector>

#include "core/deadline.h"

namespace nc::transport {

class Silence {
 public:
  // Never finds anything with `deadAfter` 0.
  Silence(Millis deadAfter, size_t size);

  // When sample() is to be called next at the latest.
  Clock::time_point due() const { return next_; }
  Millis limit() const { return deadAfter_; }
  // Starts a sample; false if it is not time yet.
  bool sample(Clock::time_point now);
  // Within a sample: `reads` counts what has been read from `rank`. True if it has been silent for too long.
  bool tooLong(int rank, uint64_t reads);
  // Nothing could be read of it, which is not its fault.
  void excuse(int rank) { ranks_[static_cast<size_t>(rank)].quiet = {}; }

 private:
  struct Rank {
    uint64_t reads = 0;
    Clock::duration quiet{};
  };
  Millis deadAfter_;
  Clock::duration interval_;
  Clock::time_point last_;
  Clock::time_point next_ = Clock::time_point::max();
  Clock::duration counted_{};
  std::vector<Rank> ranks_;
};

}  // namespace nc::transport
