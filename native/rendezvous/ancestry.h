// What a group that re-forms has from the one before: a lineage, and which of its ranks go on. All empty in a
// first generation and for newcomers.
#pragma once

#include <string>
#include <vector>

#include "rendezvous/record.h"

namespace nc::rendezvous {

struct Ancestry {
  std::string lineage;     // random, of the first generation; tells groups of one name apart
  std::vector<int> ranks;  // of the generation before: those that go on, in order. The new rank is the index
  std::vector<int> lost;   // of the generation before: those that this rank knows to be gone
};

void encodeAncestry(Record& record, const Ancestry& ancestry);
Ancestry decodeAncestry(const Record& record);

// "0-2, 5"
std::string rankList(const std::vector<int>& ranks);

// How two ranks' ideas of who goes on differ.
struct Difference {
  bool any = false;
  bool explained = false;       // each side leaves out only ranks that it knows to be gone
  std::vector<int> mineOnly;    // gone, as they know
  std::vector<int> theirsOnly;  // gone, as this rank knows
};
// True if the two mean groups that have no rank in common: halves that go on apart, not one group in dispute.
bool apart(const Ancestry& mine, const Ancestry& theirs);

// None where one of the two is a newcomer.
Difference compare(const Ancestry& mine, const Ancestry& theirs);

}  // namespace nc::rendezvous
