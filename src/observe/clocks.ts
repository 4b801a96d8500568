/**
 * The hosts' clocks, brought together. Ranks of one host share a clock. Between hosts, collectives help: none of them
 * ends anywhere before every rank has come, so that their ends, the median of many, tell how far two clocks are apart.
 */
import type { Dump } from './dump.ts';

/** Those that end everywhere at about the same time; a broadcast's source, say, goes on at once. */
const together = new Set(['allReduce', 'allGather', 'barrier', 'reduceScatter', 'allToAll']);

/** What to subtract from a host's times, in ms, to have them by the clock of the first host; 0 where unknown. */
export type ClockOffsets = ReadonlyMap<string, number>;

export function clockOffsets(dumps: readonly Dump[]): ClockOffsets {
  const hosts = new Map<string, Map<number, number[]>>();
  for (const { process, operations } of dumps) {
    const ends = hosts.get(process.host) ?? new Map<number, number[]>();
    hosts.set(process.host, ends);
    for (const { seq, op, state, endedAt } of operations) {
      if (state !== 'done' || endedAt === undefined || !together.has(op)) continue;
      ends.set(seq, [...(ends.get(seq) ?? []), endedAt]);
    }
  }
  const [first] = hosts.values();
  const offsets = new Map<string, number>();
  for (const [host, ends] of hosts) {
    const apart: number[] = [];
    for (const [seq, times] of ends) {
      const reference = first?.get(seq);
      if (reference !== undefined) apart.push(mean(times) - mean(reference));
    }
    offsets.set(host, ends === first ? 0 : median(apart));
  }
  return offsets;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
