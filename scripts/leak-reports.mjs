// What LeakSanitizer says, without what is not ours. Its own suppressions match any frame of a stack, and every call
// from JavaScript has Node's frames in it: a leak of ours would go with Node's. So all is reported, and a leak counts
// where what is built here asked for the memory.
import { buildDir, root } from './lib.mjs';

const leakBegins = /^(?:Direct|Indirect) leak of /;
const frames = (block) => block.split('\n').filter((line) => /^\s*#\d+ /.test(line));

/** A frame whose source or object is here, headers in node_modules included: those are compiled into the addon. */
const ours = (frame) => frame.includes(` ${root}/`) || frame.includes(`(${buildDir}/`);

/**
 * From the allocation outwards it has to come to us before it comes to V8's inside, which keeps books about what it is
 * told and does not close them at its end. Node-API's own objects, between the two, are ours to give back.
 */
function oursToFree(block) {
  const first = frames(block).find((frame) => ours(frame) || frame.includes('v8::internal::'));
  return first !== undefined && ours(first);
}

/** The report of one process without leaks of others; empty where nothing else is in it. */
export function ownFindings(report) {
  const blocks = report.split(/\n\s*\n/);
  const kept = blocks.filter((block) => !leakBegins.test(block.trimStart()) || oursToFree(block));
  const findings = kept.some((block) =>
    /^(?:Direct|Indirect) leak of |ERROR: (?!LeakSanitizer)|runtime error:|WARNING: /.test(block.trimStart()),
  );
  return findings ? kept.join('\n\n') : '';
}
