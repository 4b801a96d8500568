/** The process group: joining, collectives, closing. Bytes and waits are the native side's. */
import { DeviceBuffer } from '../device/buffer.ts';
import {
  AbortedError,
  ClosedError,
  CollectivesError,
  InvalidArgumentError,
  UnsupportedError,
} from '../errors.ts';
import {
  DType,
  type NativeFormation,
  type NativeGroup,
  type NativeGroupEvent,
  type NativeGroupInfo,
  OpKind,
  ReduceOp,
} from '../native/binding.ts';
import { abortReason, whenAborted } from '../net/abortable.ts';
import { longestTimerMs } from '../net/within.ts';
import { type Dump, dumpVariable, dumpWhereAsked, instanceOf, makeDump, writeDump } from '../observe/dump.ts';
import { type GroupStats, type OperationRecord, statsOf } from '../observe/stats.ts';
import { dieWithParentWhereAsked } from '../process/die-with-parent.ts';
import {
  type CollectiveArray,
  checkOptions,
  checkSignal,
  checkTimeout,
  orDefault,
  refuse,
} from './arrays.ts';
import type {
  AllGatherOptions,
  AllReduceOptions,
  AllToAllOptions,
  BroadcastOptions,
  OperationOptions,
  RecvOptions,
  ReduceOptions,
  ReduceScatterOptions,
  SendOptions,
} from './collectives.ts';
import * as calls from './collectives.ts';
import type {
  DeviceCall,
  DeviceOutOptions,
  DeviceRecvOptions,
  DeviceReduceOptions,
  DeviceReduceScatterOptions,
  DeviceReduceToOptions,
  DeviceRootOptions,
  DeviceSendOptions,
} from './device-collectives.ts';
import * as deviceCalls from './device-collectives.ts';
import type { VotesChoice } from './dp.ts';
import { channels, type OperationMessage, operationTrace, report } from './events.ts';
import { form } from './forming.ts';
import { type ProcessGroupOptions, prepare, type Settled } from './options.ts';
import { type NextGeneration, type ReformOptions, Succession } from './reform.ts';

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

/**
 * A group of processes that call the same collectives in the same order. Stateless: a process may be in many groups,
 * with another rank in each, also in worker threads.
 *
 * Calls may overlap; they run in call order. A group that has failed stays failed: reform() makes the next.
 */
export class ProcessGroup {
  readonly #native: NativeGroup;
  readonly #settled: Settled;
  readonly #succession: Succession;
  #formed: NativeGroupInfo | undefined;
  #state: GroupInfo['state'] = 'open';
  readonly #ended: Promise<void>;
  #failure: CollectivesError | undefined;
  #batching = false;

  private constructor(settled: Settled, native: NativeGroup, ended: Promise<void>) {
    this.#settled = settled;
    this.#native = native;
    this.#ended = ended;
    this.#succession = new Succession(settled, native);
  }

  /**
   * Forms the group: resolves on every rank once every rank is linked with every other, or rejects on every rank.
   *
   * @throws InvalidArgumentError for wrong options; AddressInUseError (rank 0) when every candidate port is taken;
   *   RendezvousError when the group's store was not found in time, saying what was; TimeoutError naming the ranks
   *   that did not come; RankTakenError, GroupMismatchError; RankLostError if a rank died meanwhile; AbortedError.
   */
  static create(options: ProcessGroupOptions): Promise<ProcessGroup>;
  /** @internal */
  static create(
    options: ProcessGroupOptions,
    onAddressInUse: (address: string) => void,
  ): Promise<ProcessGroup>;
  static async create(
    options: ProcessGroupOptions,
    onAddressInUse?: (address: string) => void,
  ): Promise<ProcessGroup> {
    dieWithParentWhereAsked();
    return ProcessGroup.#form(await prepare(options, onAddressInUse));
  }

  static #form(settled: Settled, onNative?: (native: NativeGroup) => void): Promise<ProcessGroup> {
    return form(
      settled,
      (native, ended) => {
        onNative?.(native);
        return new ProcessGroup(settled, native, ended);
      },
      (group, event) => group.#onEvent(event),
    );
  }

  /**
   * Makes the next generation of this group in the same processes: of the ranks that are left after a failure, of some
   * of a healthy group, or with newcomers. Every rank that goes on calls it. It resolves on all or rejects on all, and
   * may be called again; this group stays as it is until the new one stands, and is closed then.
   *
   * @throws ClosedError; InvalidArgumentError, also while it is being re-formed already; RankLostError when a rank that
   *   was to go on is lost, which the next call leaves out; TimeoutError naming the ranks that did not call it;
   *   GroupMismatchError when callers mean different ranks; AbortedError. `peer` and `missing` are ranks of this group.
   */
  async reform(options: ReformOptions = {}): Promise<ProcessGroup> {
    const next = await this.#succession.reform(options, ProcessGroup.#form);
    void this.close();
    return next;
  }

  /** This process's number in the group, from 0. */
  get rank(): number {
    return this.#settled.native.rank;
  }
  /** How many ranks the group has: its world size. */
  get size(): number {
    return this.#settled.native.size;
  }

  /** What this group is: its members, addresses and limits, and whether it still is open. */
  info(): GroupInfo {
    const native = this.#formed as NativeGroupInfo;
    const settled = this.#settled;
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
        return { rank, host, pid, link, id, reformAt: this.#succession.placeOf(rank) };
      }),
      lost: this.#succession.lost,
      next: this.#succession.next,
      timeoutMs: settled.timeoutMs,
      initTimeoutMs: settled.initTimeoutMs,
      heartbeatMs: settled.native.heartbeatMs,
      deadAfterMs: settled.native.deadAfterMs,
      formation: { ...native.formation, totalMs: sum(Object.values(native.formation)) },
      votes: { ...settled.backend.votes },
      ...(native.library === undefined ? {} : { library: { ...native.library } }),
      ...(native.device === undefined ? {} : { device: { ...native.device } }),
      state: this.#state,
    };
  }

  /**
   * The last operations, oldest call first: up to 256 that have ended, what runs, and up to 256 that wait for their
   * turn. Also after the group has failed or closed.
   */
  operations(): OperationRecord[] {
    return this.#native.operations().sort((a, b) => a.seq - b.seq);
  }

  /** What the group has done since it was formed: counters, latencies, links. formatPrometheus() takes it. */
  stats(): GroupStats {
    const { groupName, rank, size } = this.#settled.native;
    return statsOf({ groupName, rank, size }, this.#native.stats());
  }

  /**
   * Writes all that this rank knows of the group to a file that `npx node-collectives inspect` reads, at any time.
   * Where `NODE_COLLECTIVES_DUMP_DIR` is set, that happens by itself when the group fails.
   *
   * @param path a file, or a folder that exists; that variable's otherwise, or else the current one.
   * @returns the file that was written.
   * @throws the file system's error, as it is.
   */
  dump(path: string = process.env[dumpVariable] || '.'): string {
    if (typeof path !== 'string' || path === '') throw refuse('dump', 'path', 'a file or a folder', path);
    return writeDump(this.#dump('request'), path);
  }

  /**
   * Reduces `array` element by element over all ranks; every rank gets the result, the same to the last bit.
   * In place unless `out` is given. Integers are exact (sum and prod modulo 2^n); docs/collectives.md has the order
   * of floating-point sums.
   *
   * @returns the array that holds the result.
   */
  allReduce<T extends CollectiveArray>(array: T, options?: AllReduceOptions<T>): Promise<T>;
  /** On device memory: docs/gpu.md. */
  allReduce(buffer: DeviceBuffer, options: DeviceReduceOptions): Promise<DeviceBuffer>;
  async allReduce(
    array: CollectiveArray | DeviceBuffer,
    options: AllReduceOptions<CollectiveArray> | DeviceReduceOptions = {},
  ): Promise<CollectiveArray | DeviceBuffer> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceReduceOptions;
      return this.#runDevice(deviceCalls.allReduce(array, chosen), chosen);
    }
    const chosen = options as AllReduceOptions<CollectiveArray>;
    return this.#run(calls.allReduce(array, chosen), chosen);
  }

  /** Every rank gets `root`'s values, in place. All ranks give arrays of the same type and length. */
  broadcast<T extends CollectiveArray>(array: T, options?: BroadcastOptions): Promise<T>;
  /** On device memory: docs/gpu.md. */
  broadcast(buffer: DeviceBuffer, options: DeviceRootOptions): Promise<DeviceBuffer>;
  async broadcast(
    array: CollectiveArray | DeviceBuffer,
    options: BroadcastOptions | DeviceRootOptions = {},
  ): Promise<CollectiveArray | DeviceBuffer> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceRootOptions;
      return this.#runDevice(deviceCalls.broadcast(this, array, chosen), chosen);
    }
    const chosen = options as BroadcastOptions;
    return this.#run(calls.broadcast(this, array, chosen), chosen);
  }

  /** Every rank gets all ranks' arrays, one after the other in rank order. */
  allGather<T extends CollectiveArray>(array: T, options?: AllGatherOptions<T>): Promise<T>;
  /** On device memory: docs/gpu.md. */
  allGather(buffer: DeviceBuffer, options: DeviceOutOptions): Promise<DeviceBuffer>;
  async allGather(
    array: CollectiveArray | DeviceBuffer,
    options: AllGatherOptions<CollectiveArray> | DeviceOutOptions = {},
  ): Promise<CollectiveArray | DeviceBuffer> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceOutOptions;
      return this.#runDevice(deviceCalls.allGather(this, array, chosen), chosen);
    }
    const chosen = options as AllGatherOptions<CollectiveArray>;
    return this.#run(calls.allGather(this, array, chosen), chosen);
  }

  /**
   * Reduces `array` element by element over all ranks; only `root` gets the result, in place unless `out` is given.
   * On the other ranks the array stays as it is.
   *
   * @returns on the root the array that holds the result, elsewhere the input.
   */
  reduce<T extends CollectiveArray>(array: T, options?: ReduceOptions<T>): Promise<T>;
  /** On device memory: docs/gpu.md. */
  reduce(buffer: DeviceBuffer, options: DeviceReduceToOptions): Promise<DeviceBuffer>;
  async reduce(
    array: CollectiveArray | DeviceBuffer,
    options: ReduceOptions<CollectiveArray> | DeviceReduceToOptions = {},
  ): Promise<CollectiveArray | DeviceBuffer> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceReduceToOptions;
      return this.#runDevice(deviceCalls.reduce(this, array, chosen), chosen);
    }
    const chosen = options as ReduceOptions<CollectiveArray>;
    return this.#run(calls.reduce(this, array, chosen), chosen);
  }

  /**
   * Reduces `array`, a block for each rank in rank order, element by element over all ranks; each rank gets its
   * block of the result. All ranks give arrays of one length, a multiple of the world size.
   *
   * @returns the array that holds this rank's block: `out`, or a new one.
   */
  reduceScatter<T extends CollectiveArray>(array: T, options?: ReduceScatterOptions<T>): Promise<T>;
  /** On device memory: docs/gpu.md. */
  reduceScatter(buffer: DeviceBuffer, options: DeviceReduceScatterOptions): Promise<DeviceBuffer>;
  async reduceScatter(
    array: CollectiveArray | DeviceBuffer,
    options: ReduceScatterOptions<CollectiveArray> | DeviceReduceScatterOptions = {},
  ): Promise<CollectiveArray | DeviceBuffer> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceReduceScatterOptions;
      return this.#runDevice(deviceCalls.reduceScatter(this, array, chosen), chosen);
    }
    const chosen = options as ReduceScatterOptions<CollectiveArray>;
    return this.#run(calls.reduceScatter(this, array, chosen), chosen);
  }

  /**
   * Sends block j of `array` to rank j; the result has the block that rank i sent to this one in place i. All ranks
   * give arrays of one length, a multiple of the world size.
   *
   * @returns the array that holds the result: `out`, or a new one.
   */
  allToAll<T extends CollectiveArray>(array: T, options?: AllToAllOptions<T>): Promise<T>;
  /** On device memory: docs/gpu.md. */
  allToAll(buffer: DeviceBuffer, options: DeviceOutOptions): Promise<DeviceBuffer>;
  async allToAll(
    array: CollectiveArray | DeviceBuffer,
    options: AllToAllOptions<CollectiveArray> | DeviceOutOptions = {},
  ): Promise<CollectiveArray | DeviceBuffer> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceOutOptions;
      return this.#runDevice(deviceCalls.allToAll(this, array, chosen), chosen);
    }
    const chosen = options as AllToAllOptions<CollectiveArray>;
    return this.#run(calls.allToAll(this, array, chosen), chosen);
  }

  /**
   * Sends `array` to one rank, which has to call {@link recv}: the n-th message to a rank is its n-th from this one,
   * of the same type, length and tag. No other rank takes part. Resolves once the memory may be used again: a small
   * message has then left, and need not have been received.
   *
   * Sends and receives that are called without awaiting run at the same time; a collective called after them begins
   * when they are done. docs/collectives.md has what can wait for ever.
   */
  send(array: CollectiveArray, options: SendOptions): Promise<void>;
  /** On device memory: docs/gpu.md. */
  send(buffer: DeviceBuffer, options: DeviceSendOptions): Promise<void>;
  async send(array: CollectiveArray | DeviceBuffer, options: SendOptions | DeviceSendOptions): Promise<void> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceSendOptions;
      await this.#runDevice(deviceCalls.send(this, array, chosen), chosen);
      return;
    }
    await this.#message(calls.send(this, array, options as SendOptions), options);
  }

  /**
   * Receives into `array` what one rank sends with {@link send}.
   *
   * @returns the array.
   */
  recv<T extends CollectiveArray>(array: T, options: RecvOptions): Promise<T>;
  /** On device memory: docs/gpu.md. */
  recv(buffer: DeviceBuffer, options: DeviceRecvOptions): Promise<DeviceBuffer>;
  async recv(
    array: CollectiveArray | DeviceBuffer,
    options: RecvOptions | DeviceRecvOptions,
  ): Promise<CollectiveArray | DeviceBuffer> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceRecvOptions;
      return this.#runDevice(deviceCalls.recv(this, array, chosen), chosen);
    }
    return this.#message(calls.recv(this, array, options as RecvOptions), options);
  }

  /** Resolves once every rank has called it. */
  async barrier(options: OperationOptions = {}): Promise<void> {
    await this.#run(calls.barrier(), options);
  }

  /**
   * Ends everything on this rank at once; pending calls reject with AbortedError, and the other ranks' with an error
   * that says which rank aborted, and why.
   */
  abort(reason = 'abort() was called'): void {
    if (typeof reason !== 'string') throw refuse('abort', 'reason', 'a text', reason);
    this.#succession.abort(reason);
    this.#native.abort(reason);
  }

  /**
   * Leaves the group: waits for the operations called so far, says goodbye to the others and frees threads,
   * descriptors and ports. May be called again. After `timeoutMs` (default: none), or when `signal` fires,
   * what is still pending is aborted.
   */
  async close(options: OperationOptions = {}): Promise<void> {
    checkOptions('close', options);
    if (options.timeoutMs !== undefined) checkTimeout('close', 'timeoutMs', options.timeoutMs);
    checkSignal('close', options.signal);
    if (this.#state === 'open') this.#state = 'closing';
    this.#succession.close();
    this.#native.close();
    const forget = whenAborted(options.signal, (reason) => this.#native.abort(reason));
    const late =
      options.timeoutMs === undefined
        ? undefined
        : setTimeout(
            () => this.#native.abort('close() ran out of time'),
            Math.min(options.timeoutMs, longestTimerMs),
          );
    try {
      await this.#ended;
    } finally {
      clearTimeout(late);
      forget();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * An all-reduce of a few numbers that the native side holds itself: the way of the votes.
   * @internal
   */
  vote(op: 'max' | 'sum', values: number[], options: OperationOptions | undefined): Promise<number[]>;
  /** @internal */
  vote(op: 'min', values: bigint[], options: OperationOptions | undefined): Promise<bigint[]>;
  async vote(
    op: 'max' | 'sum' | 'min',
    values: number[] | bigint[],
    options: OperationOptions = {},
  ): Promise<number[] & bigint[]> {
    const timeoutMs = this.#checked('vote', options);
    const dtype = typeof values[0] === 'bigint' ? DType.int64 : DType.int32;
    try {
      const call = () =>
        this.#native.vote<number[] & bigint[]>(
          dtype,
          ReduceOp[op],
          values,
          timeoutMs,
          false,
          this.#deviceVotes,
        );
      return await this.#under(options.signal, isWatched() ? () => this.#watched('allReduce', call) : call);
    } catch (error) {
      throw this.#noted(error);
    }
  }

  /** The same, blocking this thread. @internal */
  voteSync(op: 'max' | 'sum', values: number[], options: OperationOptions | undefined): number[];
  /** @internal */
  voteSync(op: 'min', values: bigint[], options: OperationOptions | undefined): bigint[];
  voteSync(
    op: 'max' | 'sum' | 'min',
    values: number[] | bigint[],
    options: OperationOptions = {},
  ): number[] & bigint[] {
    const timeoutMs = this.#checked('vote', options);
    const dtype = typeof values[0] === 'bigint' ? DType.int64 : DType.int32;
    try {
      const seq = isWatched() ? this.#native.lastSeq() + 1 : 0;
      try {
        return this.#native.vote(dtype, ReduceOp[op], values, timeoutMs, true, this.#deviceVotes);
      } finally {
        if (seq > 0) this.#publish(seq);
      }
    } catch (error) {
      throw this.#noted(error);
    }
  }

  get #deviceVotes(): boolean {
    return this.#settled.backend.votes.path === 'device';
  }

  #checked(op: string, options: OperationOptions): number {
    checkOptions(op, options);
    const timeoutMs = orDefault(options.timeoutMs, this.#settled.timeoutMs);
    checkTimeout(op, 'timeoutMs', timeoutMs);
    checkSignal(op, options.signal);
    if (this.#state === 'closing' || this.#state === 'closed') {
      throw new ClosedError(`${op}: the group is closed on this rank`, { rank: this.rank, op });
    }
    if (options.signal?.aborted) throw this.#abortedBefore(op, options.signal);
    return Math.ceil(timeoutMs);
  }

  /** The others may wait for this rank in that operation already: they have to hear that it will not come. */
  #abortedBefore(op: string, signal: AbortSignal): unknown {
    const reason = abortReason(signal);
    this.#native.abort(reason);
    const { rank } = this;
    const facts = { rank, peer: rank, detectedBy: rank, op };
    return this.#noted(this.#failure ?? new AbortedError(`aborted by rank ${rank}: ${reason}`, facts));
  }

  /** The call; the group is aborted if `signal` fires meanwhile. */
  #under<T>(signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> {
    return signal === undefined ? call() : this.#abortable(signal, call);
  }

  async #abortable<T>(signal: AbortSignal, call: () => Promise<T>): Promise<T> {
    const forget = whenAborted(signal, (reason) => this.#native.abort(reason));
    try {
      return await call();
    } finally {
      forget();
    }
  }

  async #run<T extends CollectiveArray>(call: calls.Call<T>, options: OperationOptions): Promise<T> {
    const { op, dtype, reduceOp, root, count, input, out } = call;
    const timeoutMs = this.#checked(op, options);
    const staged = this.#staged(op, options);
    try {
      const start = () =>
        this.#native.run(OpKind[op], DType[dtype], reduceOp, root, count, input, out, timeoutMs, staged);
      await this.#under(options.signal, isWatched() ? () => this.#watched(op, start) : start);
    } catch (error) {
      throw this.#noted(error);
    }
    return out;
  }

  async #message<T extends CollectiveArray>(
    message: calls.Message<T>,
    options: OperationOptions,
  ): Promise<T> {
    const { op, dtype, peer, tag, array } = message;
    const timeoutMs = this.#checked(op, options);
    const staged = this.#staged(op, options);
    try {
      if (staged) this.#inBatch();
      await this.#under(options.signal, () =>
        this.#native.message(OpKind[op], DType[dtype], peer, tag, array.length, array, timeoutMs, staged),
      );
    } catch (error) {
      throw this.#noted(error);
    }
    return array;
  }

  /** A send or recv on devices is called: those that follow in the same run of JavaScript go with it. */
  #inBatch(): void {
    if (this.#batching) return;
    this.#batching = true;
    queueMicrotask(() => {
      this.#batching = false;
      this.#native.endBatch();
    });
  }

  #staged(op: string, options: OperationOptions & { staging?: boolean }): boolean {
    const { staging = false } = options;
    if (typeof staging !== 'boolean') throw refuse(op, 'staging', 'a boolean', staging);
    if (staging && this.#settled.native.device === null) {
      throw refuse(op, 'staging', "false in a group without devices; form it with backend 'nccl'", staging);
    }
    return staging;
  }

  async #runDevice(call: DeviceCall, options: OperationOptions): Promise<DeviceBuffer> {
    const { op, dtype, reduceOp, root, count, input, inputOffset, out, outOffset } = call;
    const timeoutMs = this.#checked(op, options);
    try {
      const start = () =>
        this.#native.runDevice(
          OpKind[op],
          dtype,
          reduceOp,
          root,
          count,
          input,
          inputOffset,
          out,
          outOffset,
          call.stream,
          call.untilEnqueued,
          timeoutMs,
          call.tag,
        );
      if (op === 'send' || op === 'recv') {
        this.#inBatch();
        await this.#under(options.signal, start);
      } else {
        await this.#under(options.signal, isWatched() ? () => this.#watched(op, start) : start);
      }
    } catch (error) {
      throw this.#noted(error);
    }
    return call.result;
  }

  /** The call, told to those who subscribed; nothing of this is paid where nobody has. */
  #watched<T>(op: string, call: () => Promise<T>): Promise<T> {
    const { groupName, rank, size } = this.#settled.native;
    const context: Record<string, unknown> = { groupName, rank, size, op };
    const numbered = () => {
      const pending = call();
      const seq = this.#native.lastSeq();
      context['seq'] = seq;
      const publish = () => this.#publish(seq);
      pending.then(publish, publish);
      return pending;
    };
    return operationTrace.hasSubscribers ? operationTrace.tracePromise(numbered, context) : numbered();
  }

  #publish(seq: number): void {
    const operation = this.#native.operation(seq);
    if (operation === null || operation.state === 'running') return;
    const { groupName, rank, size } = this.#settled.native;
    report('operation', { groupName, rank, size, operation } as OperationMessage);
  }

  /** A call may fail a moment before the event that says so: whoever catches its error sees a failed group. */
  #noted(error: unknown): unknown {
    if (!(error instanceof CollectivesError)) return error;
    if (error instanceof InvalidArgumentError || error instanceof ClosedError) return error;
    if (error instanceof UnsupportedError) return error;
    this.#fail(error);
    return error;
  }

  /** Whoever hears of the failure may end the process: the dump is written first. */
  #fail(error: CollectivesError): void {
    this.#state = 'failed';
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#succession.onFailure(error);
    dumpWhereAsked(() => this.#dump('failure'));
  }

  #dump(reason: Dump['reason']): Dump {
    const { native, timeoutMs, initTimeoutMs } = this.#settled;
    const { groupName, jobId, generation, rank, size } = native;
    const formed = this.#formed;
    const group = {
      groupName,
      jobId,
      generation,
      rank,
      size,
      backend: this.#settled.backend.name,
      backendReason: this.#settled.backend.reason,
      state: this.#state,
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
    return makeDump(reason, group, this.#failure, this.operations(), this.stats());
  }

  #onEvent(event: NativeGroupEvent): void {
    this.#succession.onEvent(event);
    if (event.type === 'formed') this.#formed = this.#native.info() as NativeGroupInfo;
    if (event.type === 'failed') this.#fail(event.error);
    if (event.type === 'ended' && this.#failure === undefined) this.#state = 'closed';
  }
}

function isWatched(): boolean {
  return channels.operation.hasSubscribers || operationTrace.hasSubscribers;
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
