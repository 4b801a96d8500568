// Counts durations in buckets whose width grows with the value, as HDR histograms do: 16 buckets for each
// doubling, so that a value read back is at most 1/16 too high. Belongs to whoever guards it.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace nc {

class Histogram {
 public:
  static constexpr unsigned kDetail = 4;                      // bits kept of each value
  static constexpr uint64_t kMost = (uint64_t{1} << 44) - 1;  // ns: nearly five hours; more counts as this
  static constexpr size_t kBuckets = (44 - kDetail + 1) << kDetail;

  void add(uint64_t value) {
    ++counts_[bucket(value)];
    if (value > max_) max_ = value;
    sum_ += value;
    ++count_;
  }
  uint64_t count() const { return count_; }
  uint64_t sum() const { return sum_; }
  uint64_t max() const { return max_; }
  const std::array<uint64_t, kBuckets>& counts() const { return counts_; }

  static size_t bucket(uint64_t value) {
    if (value > kMost) value = kMost;
    if (value < (1u << kDetail)) return static_cast<size_t>(value);
    const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - kDetail - 1;
    return (static_cast<size_t>(shift) << kDetail) + static_cast<size_t>(value >> shift);
  }
  // The largest value that falls into a bucket.
  static uint64_t top(size_t bucket) {
    if (bucket < (2u << kDetail)) return bucket;
    const unsigned shift = static_cast<unsigned>(bucket >> kDetail) - 1;
    const uint64_t mantissa = (bucket & ((1u << kDetail) - 1)) | (1u << kDetail);
    return ((mantissa + 1) << shift) - 1;
  }

 private:
  std::array<uint64_t, kBuckets> counts_{};
  uint64_t count_ = 0;
  uint64_t sum_ = 0;
  uint64_t max_ = 0;
};

}  // namespace nc
