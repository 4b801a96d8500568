// A sound library that is none of those looked for.
extern "C" __attribute__((visibility("default"))) int otherFunction() {
  return 1;
}
