/**
 * Loads the addon and types it, nothing else. What is said here about arguments is checked by the callers.
 */
import { type CollectivesError, type ErrorFacts, makeError } from '../errors.ts';
import { loadAddon } from './load.ts';

/** Native numbers of operations, data types and reduce ops; the same as in native/core/operation.h. */
export const OpKind = {
  allReduce: 1,
  broadcast: 2,
  allGather: 3,
  barrier: 4,
  reduce: 5,
  reduceScatter: 6,
  allToAll: 7,
  send: 8,
  recv: 9,
} as const;
export const DType = {
  int8: 1,
  uint8: 2,
  int16: 3,
  uint16: 4,
  int32: 5,
  uint32: 6,
  int64: 7,
  uint64: 8,
  float16: 9,
  bfloat16: 10,
  float32: 11,
  float64: 12,
  float8e4m3: 13,
  float8e5m2: 14,
} as const;
export const ReduceOp = {
  none: 0,
  sum: 1,
  prod: 2,
  min: 3,
  max: 4,
  avg: 5,
  band: 6,
  bor: 7,
  bxor: 8,
} as const;

export interface NativeGroupOptions {
  hosts: string[];
  ports: number[];
  /** -1 for none; owned by the group from here on. */
  listenFd: number;
  rank: number;
  size: number;
  groupName: string;
  jobId: string;
  generation: number;
  /** Drawn once by this process for the group and its later generations. */
  memberId: string;
  /** Re-forming: of the group before; empty for a first generation and for newcomers. */
  lineage: string;
  /** Re-forming: the old ranks that go on, and those known to be gone. */
  ranks: number[];
  lost: number[];
  /** Re-forming: hosts and ports, in turn, where an attempt may be found that means other ranks. */
  alsoAt: string[];
  allowedAddresses: string[];
  /** Names and values in turn. */
  settings: string[];
  /** Empty for none. */
  secret: string;
  /** Listen beyond this host without a secret. */
  allowUnauthenticated: boolean;
  initTimeoutMs: number;
  heartbeatMs: number;
  deadAfterMs: number;
  /** Not to be formed: this rank was aborted for that reason, and the others are to hear of it. */
  leaving: string | null;
  /** Of a GPU group. */
  device: { index: number; ncclPath: string } | null;
}

export type NativeGroupEvent =
  | { type: 'listening'; port: number }
  | { type: 'addressInUse'; address: string }
  | { type: 'refused'; rank: number; pid: number; host: string; reason: string }
  | { type: 'waiting'; seq: number; op: string; waitedMs: number; missing: number[] }
  | { type: 'formed' }
  | { type: 'gone'; rank: number }
  | { type: 'failed'; error: CollectivesError }
  /** Nothing follows, unless the others of a failed formation are still `telling`. */
  | { type: 'ended'; telling: boolean }
  | { type: 'told' };

/** One operation of a group; exported as OperationRecord. */
export interface NativeOperation {
  /** Number of the operation within its group, from 1. */
  seq: number;
  /** `allReduce`, ...; votes are all-reduces. */
  op: string;
  dtype: string;
  reduceOp?: string;
  /** The source of a broadcast, the target of a reduce, the other rank of a send or recv. */
  root?: number;
  /** It runs on the ranks' devices. */
  device?: boolean;
  /** Elements: of the array, or of one rank's block for reduceScatter and allToAll. */
  count: number;
  /** What this rank contributes; 0 for a barrier. */
  bytes: number;
  /** How it ran, e.g. `recursive doubling`; known once it has ended. */
  path?: string;
  /** `queued` behind others, `running`, `done` or `failed`. */
  state: 'queued' | 'running' | 'done' | 'failed';
  /** When it was called, when its turn came, when it ended: milliseconds since 1970, with fractions. */
  calledAt: number;
  begunAt?: number;
  endedAt?: number;
  /**
   * Milliseconds of its running that went into waiting for messages of other ranks, their transfer included. Not known
   * of operations on devices, of sends and receives, and of what failed before its turn came.
   */
  waitedMs?: number;
  /** The code of the error it failed with, and the ranks that had not come. */
  error?: string;
  missing?: number[];
}

export interface NativeKindCounters {
  done: number;
  failed: number;
  bytes: number;
  waitedMs: number;
  totalNs: number;
  maxNs: number;
  /** Number and content in turn of each bucket that is not empty; native/core/histogram.h. */
  buckets: number[];
}

/** What has passed over the link to one rank; bytes include the frames' headers. */
export interface NativeLinkCounters {
  peer: number;
  framesIn: number;
  bytesIn: number;
  framesOut: number;
  bytesOut: number;
}

export interface NativeGroupStats {
  kinds: Record<string, NativeKindCounters>;
  failures: Record<string, number>;
  queued: number;
  running: number;
  earlyFrames: number;
  links: NativeLinkCounters[];
  /** When the group stood, and when this rank heard that it has failed: milliseconds since 1970. */
  formedAt?: number;
  failedAt?: number;
}

/** Milliseconds that each part of forming the group took on this rank. */
export interface NativeFormation {
  /** To have found the group's store; on rank 0 to have opened it. */
  foundMs: number;
  /** Then to have claimed the rank, */
  registeredMs: number;
  /** for every rank to have done so, */
  metMs: number;
  /** to be linked with all of them, */
  linkedMs: number;
  /** and for all to be linked with all. */
  agreedMs: number;
  /** Beside these, what the ranks' devices took; 0 for groups without. */
  devicesMs: number;
}

export interface NativeGroupInfo {
  /** Drawn by rank 0 for this formation, hexadecimal. What members know of each other: not for strangers. */
  token: string;
  formation: NativeFormation;
  rank: number;
  size: number;
  generation: number;
  lineage: string;
  portIndex: number;
  store: string;
  members: {
    rank: number;
    host: string;
    pid: number;
    link: string;
    id: string;
    address: string;
    heldPort: number;
  }[];
  /** Of a GPU group. */
  library?: { name: 'NCCL' | 'RCCL'; version: string; path: string };
  device?: { index: number; name: string; uuid: string; platform: 'cuda' | 'rocm' };
}

export type NativeArray = NodeJS.TypedArray;

export interface NativeGroup {
  start(): void;
  abort(reason: string): void;
  /** After a formation that failed: its other ranks are told no more. */
  hush(): void;
  close(): void;
  info(): NativeGroupInfo | null;
  operations(): NativeOperation[];
  /** One that runs or has ended lately. */
  operation(seq: number): NativeOperation | null;
  /** The number of the operation that was called last. */
  lastSeq(): number;
  stats(): NativeGroupStats;
  /** A listening socket on the port that this rank holds for the next generation; the caller owns it. */
  meet(): number;
  /** That rank of this group, which still forms, is lost. */
  lose(rank: number, host: string, pid: number): void;
  run(
    kind: number,
    dtype: number,
    op: number,
    root: number,
    count: number,
    input: NativeArray,
    out: NativeArray,
    timeoutMs: number,
    staged: boolean,
  ): Promise<void>;
  runDevice(
    kind: number,
    dtype: number,
    op: number,
    root: number,
    count: number,
    input: object | null,
    inputOffset: number,
    out: object | null,
    outOffset: number,
    stream: object | null,
    untilEnqueued: boolean,
    timeoutMs: number,
    tag: number,
  ): Promise<void>;
  /** `send` or `recv`. */
  message(
    kind: number,
    dtype: number,
    peer: number,
    tag: number,
    count: number,
    array: NativeArray,
    timeoutMs: number,
    staged: boolean,
  ): Promise<void>;
  /** Sends and receives on devices are kept until this, or any other call, and begin together. */
  endBatch(): void;
  /** Numbers (int32) or bigints (int64) in, the same kind out; with `sync` this thread blocks. */
  vote<T extends number[] | bigint[]>(
    dtype: number,
    op: number,
    values: number[] | bigint[],
    timeoutMs: number,
    sync: false,
    onDevice: boolean,
  ): Promise<T>;
  vote<T extends number[] | bigint[]>(
    dtype: number,
    op: number,
    values: number[] | bigint[],
    timeoutMs: number,
    sync: true,
    onDevice: boolean,
  ): T;
}

/** How the search for a library went; native/nccl/probe.h. */
export interface LibraryProbe {
  /** A file was found and loaded; what `error` says came after. */
  loaded: boolean;
  /** Why it cannot be used; absent if it can. */
  error?: string;
  path?: string;
  /** `option`, a variable's name, `loader` or `usual places`. */
  source?: string;
  /** `12.4`, `2.22.3`. */
  version?: string;
  /** Every file that was tried, in order; only the one that was loaded has no reason. */
  attempts: { source: string; path: string; reason?: string }[];
}

export interface DriverProbe extends LibraryProbe {
  devices: { index: number; name: string; uuid: string; busId: string; memoryBytes: number }[];
  /** `peers[a][b]`: device a can reach b's memory. */
  peers: boolean[][];
}

export interface DeviceProbe {
  cuda: DriverProbe;
  hip: DriverProbe;
  nccl: LibraryProbe;
  rccl: LibraryProbe;
}

/** Files to load instead of the usual search. */
export interface ProbeOptions {
  cudaPath?: string;
  hipPath?: string;
  ncclPath?: string;
  rcclPath?: string;
}

interface Binding {
  setErrorFactory(factory: (code: string, message: string, facts: ErrorFacts) => CollectivesError): void;
  /** Binds a free port of a numeric address without listening; the caller owns the descriptor. */
  holdPort(address: string): { fd: number; port: number };
  listenOn(fd: number): void;
  closeFd(fd: number): void;
  /** This process ends with that parent (0: the one it has now), whose pid it returns; native/core/parent_watch.h. */
  watchParent(watch: { parent: number; signal: number; graceMs: number; byNumber: boolean }): number;
  /** The pid of the parent that is watched, 0 for none. */
  watchedParent(): number;
  /** Looks for GPUs and their libraries without using any; blocks while the drivers start. */
  probeDevices(options?: ProbeOptions): DeviceProbe;
  NativeGroup: new (options: NativeGroupOptions, onEvent: (event: NativeGroupEvent) => void) => NativeGroup;
}

let loaded: Binding | undefined;

/** The addon, loaded at first use, so that importing the package works where the addon does not. */
export function binding(): Binding {
  if (loaded === undefined) {
    loaded = loadAddon() as Binding;
    loaded.setErrorFactory(makeError);
  }
  return loaded;
}
