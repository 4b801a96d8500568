/** What a rank that has given up a formation still tells the others, once its own caller knows. */
import { binding, type NativeGroupEvent, type NativeGroupOptions } from '../native/binding.ts';
import { formationOver, publish } from './coordination.ts';
import type { Settled } from './options.ts';

/** As native code: whoever comes later than that belongs to the next attempt. */
const lateMs = 1000;

export interface Telling {
  /** All is said. */
  over(): void;
}

interface Underway {
  options: NativeGroupOptions;
  hush: () => void;
}

const underway = new Set<Underway>();

/** The others of that formation are being told; `hush` ends it. */
export function telling(options: NativeGroupOptions, hush: () => void): Telling {
  const entry = { options, hush };
  underway.add(entry);
  return { over: () => void underway.delete(entry) };
}

/** This rank joins that group anew: that an attempt before was given up would end this one. */
export function hush(options: NativeGroupOptions): void {
  for (const entry of underway) {
    const { groupName, jobId, generation, rank, memberId } = entry.options;
    // What rank 0 serves on is its old formation's, and the next has another store.
    if (rank === 0) continue;
    if (groupName !== options.groupName || jobId !== options.jobId || generation !== options.generation)
      continue;
    // Re-formed from other ranks, a member has another number.
    if (rank !== options.rank && memberId !== options.memberId) continue;
    underway.delete(entry);
    entry.hush();
  }
}

/**
 * This rank was aborted while it was still finding out where the others meet. That goes on, as `located`, for a moment
 * longer: then they are told there.
 *
 * @param stop ends `located`.
 */
export function leave(settled: Settled, located: Promise<void>, stop: AbortController, reason: string): void {
  const entry = telling(settled.native, () => stop.abort());
  const timer = setTimeout(() => stop.abort(), lateMs);
  timer.unref();
  located
    .then(() => tell(settled, stop.signal, reason))
    // Nobody is there to be told, or the caller's store has failed.
    .catch(() => {})
    .finally(() => {
      clearTimeout(timer);
      entry.over();
    });
}

async function tell(settled: Settled, stop: AbortSignal, reason: string): Promise<void> {
  if (stop.aborted) return;
  const options = { ...settled.native, leaving: reason, device: null };
  await new Promise<void>((resolve, reject) => {
    const onEvent = (event: NativeGroupEvent) => {
      if (event.type === 'listening') {
        publish(settled, (address) => `${address} ${event.port}`).catch(() => native.hush());
      }
      if (event.type === 'told' || (event.type === 'ended' && !event.telling)) resolve();
    };
    const native = new (binding().NativeGroup)(options, onEvent);
    stop.addEventListener('abort', () => native.hush(), { once: true });
    try {
      native.start();
    } catch (error) {
      reject(error);
    }
  });
  await publish(settled, () => formationOver);
}
