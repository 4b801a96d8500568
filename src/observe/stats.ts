/** A group in numbers: counters and latencies since it was formed. */
import type {
  NativeGroupStats,
  NativeKindCounters,
  NativeLinkCounters,
  NativeOperation,
} from '../native/binding.ts';

/** One operation of a group: what was called, how it went, and when. */
export interface OperationRecord extends NativeOperation {}

/** What has passed over the link to one rank; bytes include the frames' headers. */
export interface LinkStats extends NativeLinkCounters {}

/** Milliseconds from a call to its end, before JavaScript hears of it; at most 1/16 too high. */
export interface LatencyStats {
  count: number;
  meanMs: number;
  p50Ms: number;
  p90Ms: number;
  p99Ms: number;
  p999Ms: number;
  /** Exact. */
  maxMs: number;
  /** The whole distribution: `[upTo, count]`, how many took longer than the pair before says and up to `upTo` ms. */
  buckets: [upToMs: number, count: number][];
}

/** One kind of operation. Those that failed count in `failed` and `waitedMs` only. */
export interface KindStats {
  done: number;
  failed: number;
  /** What this rank contributed. */
  bytes: number;
  /** Milliseconds spent in waiting for messages of other ranks, their transfer included, */
  waitedMs: number;
  /** of these milliseconds from calls to their ends. */
  totalMs: number;
  latency: LatencyStats;
}

/** What a group has done since it was formed. */
export interface GroupStats {
  groupName: string;
  rank: number;
  size: number;
  /** Operations that succeeded, that failed, the bytes this rank contributed: the sums over all kinds. */
  done: number;
  failed: number;
  bytes: number;
  /** Failed operations by the code of their error. */
  failures: Record<string, number>;
  /** Operations called whose turn has not come, and those that run, now. */
  queued: number;
  running: number;
  /** Messages that came before this rank asked for them and are kept aside, now. */
  earlyFrames: number;
  /** By the operation's name; those that were called. */
  kinds: Record<string, KindStats>;
  /** One for each other rank. */
  links: LinkStats[];
  /** When the group stood, and when this rank heard that it has failed: milliseconds since 1970. */
  formedAt?: number;
  failedAt?: number;
}

/** Bits of a value that tell its bucket, as in native/core/histogram.h. */
const detail = 4;

/** The largest value of a bucket, in nanoseconds. */
export function bucketTop(bucket: number): number {
  if (bucket < 2 << detail) return bucket;
  const shift = (bucket >> detail) - 1;
  const mantissa = (bucket & ((1 << detail) - 1)) | (1 << detail);
  return (mantissa + 1) * 2 ** shift - 1;
}

const msPerNs = 1e-6;

function latencyOf({ buckets, done, totalNs, maxNs }: NativeKindCounters): LatencyStats {
  const pairs: [number, number][] = [];
  for (let i = 0; i + 1 < buckets.length; i += 2) {
    // A bucket may reach beyond the largest value that there was.
    const top = Math.min(bucketTop(buckets[i] as number), maxNs);
    pairs.push([top * msPerNs, buckets[i + 1] as number]);
  }
  const at = (share: number) => {
    let left = Math.max(1, Math.ceil(share * done));
    for (const [top, count] of pairs) {
      left -= count;
      if (left <= 0) return top;
    }
    return 0;
  };
  return {
    count: done,
    meanMs: done === 0 ? 0 : (totalNs * msPerNs) / done,
    p50Ms: at(0.5),
    p90Ms: at(0.9),
    p99Ms: at(0.99),
    p999Ms: at(0.999),
    maxMs: maxNs * msPerNs,
    buckets: pairs,
  };
}

/** The native counters, added up and made readable. */
export function statsOf(
  group: { groupName: string; rank: number; size: number },
  native: NativeGroupStats,
): GroupStats {
  const kinds = Object.fromEntries(
    Object.entries(native.kinds).map(([name, counters]): [string, KindStats] => {
      const { done, failed, bytes, waitedMs, totalNs } = counters;
      return [
        name,
        { done, failed, bytes, waitedMs, totalMs: totalNs * msPerNs, latency: latencyOf(counters) },
      ];
    }),
  );
  const sum = (key: 'done' | 'failed' | 'bytes') =>
    Object.values(kinds).reduce((total, kind) => total + kind[key], 0);
  return {
    ...group,
    done: sum('done'),
    failed: sum('failed'),
    bytes: sum('bytes'),
    failures: native.failures,
    queued: native.queued,
    running: native.running,
    earlyFrames: native.earlyFrames,
    kinds,
    links: native.links,
    ...(native.formedAt === undefined ? {} : { formedAt: native.formedAt }),
    ...(native.failedAt === undefined ? {} : { failedAt: native.failedAt }),
  };
}
