#include "rendezvous/ancestry.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <string_view>

namespace nc::rendezvous {

namespace {

constexpr int kMostRanks = 65'536;  // a record comes from the network

std::vector<int> parseRanks(std::string_view text) {
  std::vector<int> ranks;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    int first = 0;
    auto read = std::from_chars(at, end, first);
    if (read.ec != std::errc()) return {};
    int last = first;
    at = read.ptr;
    if (at < end && *at == '-') {
      read = std::from_chars(at + 1, end, last);
      if (read.ec != std::errc()) return {};
      at = read.ptr;
    }
    if (first < 0 || last < first || last >= kMostRanks || ranks.size() >= kMostRanks) return {};
    for (int rank = first; rank <= last; ++rank) ranks.push_back(rank);
    while (at < end && (*at == ',' || *at == ' ')) ++at;
  }
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

std::vector<int> without(const std::vector<int>& all, const std::vector<int>& some) {
  std::vector<int> rest;
  std::set_difference(all.begin(), all.end(), some.begin(), some.end(), std::back_inserter(rest));
  return rest;
}

}  // namespace

std::string rankList(const std::vector<int>& ranks) {
  std::string text;
  for (size_t i = 0; i < ranks.size();) {
    size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    if (!text.empty()) text += ", ";
    text += std::to_string(ranks[i]);
    if (last > i) text += "-" + std::to_string(ranks[last]);
    i = last + 1;
  }
  return text;
}

void encodeAncestry(Record& record, const Ancestry& ancestry) {
  record.set("lineage", ancestry.lineage);
  if (ancestry.ranks.empty()) return;
  record.set("ranks", rankList(ancestry.ranks)).set("lost", rankList(ancestry.lost));
}

Ancestry decodeAncestry(const Record& record) {
  return {record.get("lineage"), parseRanks(record.get("ranks")), parseRanks(record.get("lost"))};
}

bool apart(const Ancestry& mine, const Ancestry& theirs) {
  return !mine.ranks.empty() && !theirs.ranks.empty() &&
         without(mine.ranks, theirs.ranks).size() == mine.ranks.size();
}

Difference compare(const Ancestry& mine, const Ancestry& theirs) {
  Difference difference;
  if (mine.ranks.empty() || theirs.ranks.empty() || mine.ranks == theirs.ranks) return difference;
  difference.any = true;
  difference.mineOnly = without(mine.ranks, theirs.ranks);
  difference.theirsOnly = without(theirs.ranks, mine.ranks);
  difference.explained =
      without(difference.mineOnly, theirs.lost).empty() && without(difference.theirsOnly, mine.lost).empty();
  return difference;
}

}  // namespace nc::rendezvous
