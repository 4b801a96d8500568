/** What the dumps of a group's ranks say together: who failed, who saw it, who waited for whom. */
import { type ClockOffsets, clockOffsets } from './clocks.ts';
import type { Dump, DumpedFailure, DumpedGroup } from './dump.ts';
import { callOf, isCollective, type Parting, partingOf } from './parting.ts';
import type { OperationRecord } from './stats.ts';

/** One rank of the group, as far as it is known. */
export interface RankStory {
  rank: number;
  host?: string;
  pid?: number;
  /** Whether there is a dump of it. */
  dumped: boolean;
  state?: string;
  lastDone?: OperationRecord;
  /** Its failed, running or waiting operations, in the order of the calls. */
  pending: OperationRecord[];
  failure?: DumpedFailure;
  /** Of a GPU group. */
  library?: NonNullable<DumpedGroup['library']>;
  device?: NonNullable<DumpedGroup['device']>;
  /** When it heard of the failure, in ms since 1970 by the first host's clock. */
  failedAt?: number;
}

/** One cause, and the ranks that reported it. */
export interface Cause {
  code: string;
  message: string;
  /** The ranks that failed, or that did not come. */
  culprits: number[];
  /** Who saw it itself. */
  detectedBy?: number;
  op?: string;
  seq?: number;
  /** When each rank heard of it, the first one first. */
  heard: { rank: number; at: number; firstHand: boolean }[];
}

/** Ranks that sat in one operation when the group failed or the dump was made. */
export interface Wait {
  seq: number;
  operation: OperationRecord;
  waiting: { rank: number; ms: number }[];
  /** Ranks that had not called it, where that is known. */
  for: number[];
}

export interface Story {
  groupName: string;
  jobId: string;
  generation: number;
  instance?: string;
  size: number;
  formedAt?: number;
  ranks: RankStory[];
  /** Ranks without a dump. */
  undumped: number[];
  /** The first cause, and others that ranks reported beside it. */
  causes: Cause[];
  waits: Wait[];
  parting?: Parting;
  /** Milliseconds by which each host's clock is ahead of the first one's. */
  clocks: Record<string, number>;
}

/** Groups dumps by formation and tells each one's story, in order of time. */
export function storiesOf(dumps: readonly Dump[]): Story[] {
  return formationsOf(dumps).map(storyOf);
}

/** The dumps of each formation, one a rank, lowest rank first; formations in order of time. */
export function formationsOf(dumps: readonly Dump[]): Dump[][] {
  const groups = new Map<string, Map<number, Dump>>();
  for (const dump of dumps) {
    const { jobId, groupName, generation, instance, rank, size } = dump.group;
    const key = JSON.stringify([jobId, groupName, generation, size, instance ?? null]);
    const ranks = groups.get(key) ?? new Map<number, Dump>();
    groups.set(key, ranks);
    // The latest knows most.
    if ((ranks.get(rank)?.writtenAt ?? 0) <= dump.writtenAt) ranks.set(rank, dump);
  }
  const began = (of: Dump[]) => Math.min(...of.map((dump) => dump.stats.formedAt ?? dump.writtenAt));
  return [...groups.values()]
    .map((ranks) => [...ranks.values()].sort((a, b) => a.group.rank - b.group.rank))
    .sort((a, b) => began(a) - began(b));
}

function storyOf(dumps: Dump[]): Story {
  const first = dumps[0] as Dump;
  const { groupName, jobId, generation, instance, size } = first.group;
  const offsets = clockOffsets(dumps);
  const ranks = ranksOf(dumps, size, offsets);
  const formed = dumps.flatMap(({ stats, process }) =>
    stats.formedAt === undefined ? [] : [stats.formedAt - (offsets.get(process.host) ?? 0)],
  );
  const parting = partingOf(dumps);
  return {
    groupName,
    jobId,
    generation,
    ...(instance === undefined ? {} : { instance }),
    size,
    ...(formed.length === 0 ? {} : { formedAt: Math.max(...formed) }),
    ranks,
    undumped: ranks.filter(({ dumped }) => !dumped).map(({ rank }) => rank),
    causes: causesOf(ranks),
    waits: waitsOf(dumps),
    ...(parting === undefined ? {} : { parting }),
    clocks: Object.fromEntries(offsets),
  };
}

function ranksOf(dumps: readonly Dump[], size: number, offsets: ClockOffsets): RankStory[] {
  const members = dumps.find(({ group }) => group.members !== undefined)?.group.members;
  const byRank = new Map(dumps.map((dump) => [dump.group.rank, dump]));
  return Array.from({ length: size }, (_, rank): RankStory => {
    const dump = byRank.get(rank);
    const member = members?.find((each) => each.rank === rank);
    if (dump === undefined) {
      return {
        rank,
        dumped: false,
        pending: [],
        ...(member && { host: member.host, pid: member.pid }),
      };
    }
    const { process, group, operations, failure, stats } = dump;
    const lastDone = operations.filter(({ state }) => state === 'done').at(-1);
    const heard = stats.failedAt ?? dump.writtenAt;
    return {
      rank,
      host: process.host,
      pid: process.pid,
      dumped: true,
      state: group.state,
      ...(lastDone && { lastDone }),
      ...(group.library && { library: group.library }),
      ...(group.device && { device: group.device }),
      pending: operations.filter(({ state }) => state !== 'done'),
      ...(failure && { failure, failedAt: heard - (offsets.get(process.host) ?? 0) }),
    };
  });
}

/** The ranks that an error names as its cause. */
function culpritsOf({ code, peer, missing, rank }: DumpedFailure): number[] {
  if (code === 'TIMEOUT' && missing !== undefined) return missing;
  if (code === 'COLLECTIVE_MISMATCH')
    return [rank, peer].filter((each) => each !== undefined).sort(ascending);
  if (peer !== undefined) return [peer];
  return missing ?? (rank === undefined ? [] : [rank]);
}

function causesOf(ranks: readonly RankStory[]): Cause[] {
  const causes = new Map<string, Cause>();
  const told = ranks
    .filter(({ failure }) => failure !== undefined)
    .sort((a, b) => (a.failedAt as number) - (b.failedAt as number));
  for (const { rank, failedAt, failure } of told) {
    const { code, message, op, seq, consequence, detectedBy, rank: reporter } = failure as DumpedFailure;
    const culprits = culpritsOf(failure as DumpedFailure);
    // Two ranks that compare calls see each other: whichever pair it was, it is one cause.
    const key = code === 'COLLECTIVE_MISMATCH' ? code : JSON.stringify([code, culprits]);
    const firstHand = consequence !== true;
    const seenBy = detectedBy ?? (firstHand ? rank : reporter);
    const cause = causes.get(key) ?? {
      code,
      message,
      culprits,
      ...(seenBy === undefined ? {} : { detectedBy: seenBy }),
      ...(op === undefined ? {} : { op }),
      ...(seq === undefined ? {} : { seq }),
      heard: [],
    };
    causes.set(key, cause);
    cause.heard.push({ rank, at: failedAt as number, firstHand });
  }
  // A rank that ended because of another's failure is not what ended the group, though some saw its end first.
  const isVictim = (cause: Cause) =>
    cause.culprits.length > 0 &&
    cause.culprits.every((rank) => ranks[rank]?.failure !== undefined && !heardBy(cause, rank));
  const all = [...causes.values()].map((cause) => ({ cause, victim: isVictim(cause) ? 1 : 0 }));
  // Of the rest, what most ranks report; among equals, what was heard first.
  all.sort((a, b) => a.victim - b.victim || b.cause.heard.length - a.cause.heard.length);
  return all.map(({ cause }) => cause);
}

function heardBy({ heard }: Cause, rank: number): boolean {
  return heard.some((each) => each.rank === rank);
}

function waitsOf(dumps: readonly Dump[]): Wait[] {
  const waits = new Map<string, Wait>();
  for (const { operations, group, stats, writtenAt } of dumps) {
    const stuck = operations.find(({ state, begunAt }) => state !== 'done' && begunAt !== undefined);
    if (stuck?.begunAt === undefined) continue;
    const key = `${stuck.seq}${isCollective(stuck) ? '' : ` ${callOf(stuck)} ${group.rank}`}`;
    const wait = waits.get(key) ?? { seq: stuck.seq, operation: stuck, waiting: [], for: [] };
    waits.set(key, wait);
    const until = stuck.endedAt ?? stats.failedAt ?? writtenAt;
    wait.waiting.push({ rank: group.rank, ms: Math.max(0, until - stuck.begunAt) });
    wait.for.push(...(stuck.missing ?? []));
  }
  const called = (dump: Dump) => Math.max(0, ...dump.operations.filter(isCollective).map(({ seq }) => seq));
  for (const wait of waits.values()) {
    if (!isCollective(wait.operation)) continue;
    const behind = dumps.filter((dump) => called(dump) < wait.seq).map(({ group }) => group.rank);
    // A rank whose own dump has the call was late, or is behind in another operation; it did call.
    const came = new Set(dumps.filter((dump) => called(dump) >= wait.seq).map(({ group }) => group.rank));
    wait.for = [...new Set([...wait.for, ...behind])].filter((rank) => !came.has(rank)).sort(ascending);
    wait.waiting.sort((a, b) => b.ms - a.ms);
  }
  return [...waits.values()].sort((a, b) => a.seq - b.seq);
}

function ascending(a: number, b: number): number {
  return a - b;
}
