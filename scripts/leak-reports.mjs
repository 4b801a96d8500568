// What LeakSanitizer says, without what is not ours. Its own suppressions match any frame of a stack, and every call
// from JavaScript has Node's frames in it: a leak of ours would go with Node's. So all is reported, and a leak counts
// where what is built here asked for the memory.
import { buildDir, root } from './lib.mjs';

const isLeak = (block) => /^(?:Direct|Indirect) leak of /.test(block.trimStart());
const frames = (block) => block.split('\n').filter((line) => /^\s*#\d+ /.test(line));

/** A frame whose source or object is here, headers in node_modules included: those are compiled into the addon. */
const ours = (frame) => frame.includes(` ${root}/`) || frame.includes(`(${buildDir}/`);

/**
 * What nobody but Node can free: what it keeps of an external goes when that is collected, but not at the end of an
 * environment; a promise that is pending at that end cannot be settled any more, which is what would free its deferred.
 */
const nodesToFree = /\b(?:v8::internal::|napi_create_external \(|napi_create_promise \()/;

/**
 * From the allocation outwards it has to come to us before it comes to V8's inside, which keeps books about what it is
 * told and does not close them at its end. Other objects of Node-API, between the two, are ours to give back.
 */
function oursToFree(block) {
  const first = frames(block).find((frame) => ours(frame) || nodesToFree.test(frame));
  return first !== undefined && ours(first);
}

/** The report of one process without leaks of others; empty where nothing else is in it. */
export function ownFindings(report) {
  const kept = report.split(/\n\s*\n/).filter((block) => !isLeak(block) || oursToFree(block));
  const isFinding = (block) =>
    isLeak(block) || /ERROR: (?!LeakSanitizer)|runtime error:|WARNING: /.test(block);
  return kept.some(isFinding) ? kept.join('\n\n') : '';
}
