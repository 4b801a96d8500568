/** Made-up dumps: what ranks would have written, without the ranks. */
import type { Dump, DumpedFailure } from '../../src/observe/dump.ts';
import type { OperationRecord } from '../../src/observe/stats.ts';

/** When the made-up group was formed. */
export const epoch = Date.UTC(2026, 0, 2, 3, 0, 0);

export type Call = Partial<OperationRecord> & { at: number; ms?: number };

/** An operation called `at` ms after the epoch that began at once and took `ms`; without `ms` it still runs. */
export function call(seq: number, { at, ms, ...more }: Call): OperationRecord {
  return {
    seq,
    op: 'allReduce',
    dtype: 'int32',
    reduceOp: 'max',
    count: 1,
    bytes: 4,
    state: ms === undefined ? 'running' : 'done',
    calledAt: epoch + at,
    begunAt: epoch + at,
    ...(ms === undefined ? {} : { endedAt: epoch + at + ms, waitedMs: ms }),
    ...more,
  };
}

/** `count` votes, 10 ms apart, 1 ms each, from `from` on. */
export function votes(count: number, from = 1): OperationRecord[] {
  return Array.from({ length: count }, (_, i) => call(from + i, { at: (from + i) * 10, ms: 1 }));
}

export interface Made {
  rank: number;
  size?: number;
  host?: string;
  operations: OperationRecord[];
  failure?: Partial<DumpedFailure> & { code: string };
  /** Milliseconds after the epoch. */
  failedAt?: number;
  group?: Partial<Dump['group']>;
}

export function dumpOf({ rank, size = 4, host = 'alpha', operations, failure, failedAt, group }: Made): Dump {
  const members = Array.from({ length: size }, (_, each) => ({
    rank: each,
    host,
    pid: 100 + each,
    link: 'unix',
  }));
  return {
    format: 'node-collectives-dump',
    version: 1,
    writtenAt: epoch + (failedAt ?? 60_000),
    reason: failure === undefined ? 'request' : 'failure',
    group: {
      groupName: 'dp',
      jobId: 'job',
      generation: 0,
      instance: 'abc',
      rank,
      size,
      backend: 'gloo',
      backendReason: 'test',
      state: failure === undefined ? 'open' : 'failed',
      timeoutMs: 300_000,
      initTimeoutMs: 60_000,
      members,
      ...group,
    },
    failure:
      failure === undefined
        ? null
        : { name: 'Error', message: `message of ${failure.code}`, rank, ...failure },
    operations,
    stats: {
      groupName: 'dp',
      rank,
      size,
      done: 0,
      failed: 0,
      bytes: 0,
      failures: {},
      queued: 0,
      running: 0,
      earlyFrames: 0,
      kinds: {},
      links: [],
      formedAt: epoch,
      ...(failedAt === undefined ? {} : { failedAt: epoch + failedAt }),
    },
    process: {
      pid: 100 + rank,
      host,
      node: 'v20',
      package: '0',
      platform: 'linux-x64',
      startedAt: epoch - 1000,
    },
  };
}
