/** What a group tells of itself: for users, and for a dump. */
import type { NativeFormation, NativeGroupInfo } from '../native/binding.ts';
import { type Dump, instanceOf } from '../observe/dump.ts';
import type { VotesChoice } from './dp.ts';
import type { Settled } from './options.ts';
import type { NextGeneration, Succession } from './reform.ts';

/** One rank of a group. */
export interface GroupMember {
  rank: number;
  host: string;
  pid: number;
  /** How this rank reaches it: `unix` (same host), `host:port`, or `self`. */
  link: string;
  /** Of that process in this group and the generations that follow. */
  id: string;
  /** `host:port` where the next generation meets if this is the lowest of the ranks that go on. */
  reformAt: string;
}
/** Milliseconds that each part of forming the group took on this rank, and all of it. */
export interface FormationTimes extends NativeFormation {
  totalMs: number;
}
export interface GroupInfo {
  groupName: string;
  /** 0, and one more each time the group is re-formed. */
  generation: number;
  rank: number;
  size: number;
  backend: 'gloo' | 'nccl';
  /** Why this backend: what was asked for, or what it fell back from. */
  backendReason: string;
  /** Address of the group's store, on rank 0. */
  store: string;
  /** The candidate port the group formed on, and its place among the candidates. */
  port: number;
  portIndex: number;
  members: GroupMember[];
  /** Ranks that this one knows to be gone: lost, or closed. */
  lost: number[];
  /** For newcomers: where the next generation meets if all go on that are not gone. */
  next: NextGeneration;
  /** Milliseconds. */
  timeoutMs: number;
  initTimeoutMs: number;
  /** Milliseconds; see ProcessGroupOptions. */
  heartbeatMs: number;
  deadAfterMs: number;
  formation: FormationTimes;
  /** Which way the votes go, and why. */
  votes: VotesChoice;
  /** Of a GPU group: the library it uses, and this rank's device. */
  library?: { name: 'NCCL' | 'RCCL'; version: string; path: string };
  device?: { index: number; name: string; uuid: string; platform: 'cuda' | 'rocm' };
  state: 'open' | 'failed' | 'closing' | 'closed';
}

export function infoOf(
  settled: Settled,
  native: NativeGroupInfo,
  succession: Succession,
  state: GroupInfo['state'],
): GroupInfo {
  return {
    groupName: settled.native.groupName,
    generation: native.generation,
    rank: native.rank,
    size: native.size,
    backend: settled.backend.name,
    backendReason: settled.backend.reason,
    store: native.store,
    port: Number(native.store.slice(native.store.lastIndexOf(':') + 1)),
    portIndex: native.portIndex,
    members: native.members.map(({ rank, host, pid, link, id }) => {
      return { rank, host, pid, link, id, reformAt: succession.placeOf(rank) };
    }),
    lost: succession.lost,
    next: succession.next,
    timeoutMs: settled.timeoutMs,
    initTimeoutMs: settled.initTimeoutMs,
    heartbeatMs: settled.native.heartbeatMs,
    deadAfterMs: settled.native.deadAfterMs,
    formation: { ...native.formation, totalMs: sum(Object.values(native.formation)) },
    votes: { ...settled.backend.votes },
    ...(native.library === undefined ? {} : { library: { ...native.library } }),
    ...(native.device === undefined ? {} : { device: { ...native.device } }),
    state,
  };
}

/** `formed` is what is known once it stands. */
export function dumpedGroup(
  settled: Settled,
  formed: NativeGroupInfo | undefined,
  state: GroupInfo['state'],
): Dump['group'] {
  const { native, timeoutMs, initTimeoutMs } = settled;
  const { groupName, jobId, generation, rank, size } = native;
  return {
    groupName,
    jobId,
    generation,
    rank,
    size,
    backend: settled.backend.name,
    backendReason: settled.backend.reason,
    state,
    timeoutMs,
    initTimeoutMs,
    ...(formed === undefined
      ? {}
      : {
          instance: instanceOf(formed.token),
          store: formed.store,
          members: formed.members,
          formation: formed.formation,
          ...(formed.library === undefined ? {} : { library: formed.library }),
          ...(formed.device === undefined ? {} : { device: formed.device }),
        }),
  };
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
