/** The process group: joining, collectives, closing. Bytes and waits are the native side's. */

import { checkOptions, checkSignal, checkTimeout, refuse } from '../arguments.ts';
import { DeviceBuffer } from '../device/buffer.ts';
import type { NativeGroup, NativeGroupEvent, NativeGroupInfo } from '../native/binding.ts';
import { whenAborted } from '../net/abortable.ts';
import { longestTimerMs } from '../net/within.ts';
import { type Dump, dumpVariable, dumpWhereAsked, makeDump, writeDump } from '../observe/dump.ts';
import { type GroupStats, type OperationRecord, statsOf } from '../observe/stats.ts';
import { dieWithParentWhereAsked } from '../process/die-with-parent.ts';
import type { CollectiveArray } from './arrays.ts';
import { Caller, type VoteOp } from './calling.ts';
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
  DeviceOutOptions,
  DeviceRecvOptions,
  DeviceReduceOptions,
  DeviceReduceScatterOptions,
  DeviceReduceToOptions,
  DeviceRootOptions,
  DeviceSendOptions,
} from './device-collectives.ts';
import * as deviceCalls from './device-collectives.ts';
import { form } from './forming.ts';
import { dumpedGroup, type GroupInfo, infoOf } from './info.ts';
import { operationNames } from './known-options.ts';
import { Life } from './life.ts';
import {
  type FormingHooks,
  listeningAt,
  type ProcessGroupOptions,
  prepare,
  type Settled,
} from './options.ts';
import { type ReformOptions, Succession } from './reform.ts';

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
  readonly #life: Life;
  readonly #calls: Caller;
  readonly #ended: Promise<void>;

  private constructor(settled: Settled, native: NativeGroup, ended: Promise<void>) {
    this.#settled = settled;
    this.#native = native;
    this.#ended = ended;
    this.#succession = new Succession(settled, native);
    // Whoever hears of the failure may end the process: the dump is written first.
    this.#life = new Life((error) => {
      this.#succession.onFailure(error);
      dumpWhereAsked(() => this.#dump('failure'));
    });
    this.#calls = new Caller(settled, native, this.#life);
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
  static create(options: ProcessGroupOptions, hooks: FormingHooks): Promise<ProcessGroup>;
  static async create(options: ProcessGroupOptions, hooks: FormingHooks = {}): Promise<ProcessGroup> {
    dieWithParentWhereAsked();
    const settled = await prepare(options, hooks.onAddressInUse);
    const place = hooks.beforeForming?.();
    return ProcessGroup.#form(place === undefined ? settled : listeningAt(settled, place));
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
    return infoOf(this.#settled, this.#formed as NativeGroupInfo, this.#succession, this.#life.state);
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
  /** On device memory: docs/devices.md. */
  allReduce(buffer: DeviceBuffer, options: DeviceReduceOptions): Promise<DeviceBuffer>;
  async allReduce(
    array: CollectiveArray | DeviceBuffer,
    options: AllReduceOptions<CollectiveArray> | DeviceReduceOptions = {},
  ): Promise<CollectiveArray | DeviceBuffer> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceReduceOptions;
      return this.#calls.runDevice(deviceCalls.allReduce(array, chosen), chosen);
    }
    const chosen = options as AllReduceOptions<CollectiveArray>;
    return this.#calls.run(calls.allReduce(array, chosen), chosen);
  }

  /** Every rank gets `root`'s values, in place. All ranks give arrays of the same type and length. */
  broadcast<T extends CollectiveArray>(array: T, options?: BroadcastOptions): Promise<T>;
  /** On device memory: docs/devices.md. */
  broadcast(buffer: DeviceBuffer, options: DeviceRootOptions): Promise<DeviceBuffer>;
  async broadcast(
    array: CollectiveArray | DeviceBuffer,
    options: BroadcastOptions | DeviceRootOptions = {},
  ): Promise<CollectiveArray | DeviceBuffer> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceRootOptions;
      return this.#calls.runDevice(deviceCalls.broadcast(this, array, chosen), chosen);
    }
    const chosen = options as BroadcastOptions;
    return this.#calls.run(calls.broadcast(this, array, chosen), chosen);
  }

  /** Every rank gets all ranks' arrays, one after the other in rank order. */
  allGather<T extends CollectiveArray>(array: T, options?: AllGatherOptions<T>): Promise<T>;
  /** On device memory: docs/devices.md. */
  allGather(buffer: DeviceBuffer, options: DeviceOutOptions): Promise<DeviceBuffer>;
  async allGather(
    array: CollectiveArray | DeviceBuffer,
    options: AllGatherOptions<CollectiveArray> | DeviceOutOptions = {},
  ): Promise<CollectiveArray | DeviceBuffer> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceOutOptions;
      return this.#calls.runDevice(deviceCalls.allGather(this, array, chosen), chosen);
    }
    const chosen = options as AllGatherOptions<CollectiveArray>;
    return this.#calls.run(calls.allGather(this, array, chosen), chosen);
  }

  /**
   * Reduces `array` element by element over all ranks; only `root` gets the result, in place unless `out` is given.
   * On the other ranks the array stays as it is.
   *
   * @returns on the root the array that holds the result, elsewhere the input.
   */
  reduce<T extends CollectiveArray>(array: T, options?: ReduceOptions<T>): Promise<T>;
  /** On device memory: docs/devices.md. */
  reduce(buffer: DeviceBuffer, options: DeviceReduceToOptions): Promise<DeviceBuffer>;
  async reduce(
    array: CollectiveArray | DeviceBuffer,
    options: ReduceOptions<CollectiveArray> | DeviceReduceToOptions = {},
  ): Promise<CollectiveArray | DeviceBuffer> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceReduceToOptions;
      return this.#calls.runDevice(deviceCalls.reduce(this, array, chosen), chosen);
    }
    const chosen = options as ReduceOptions<CollectiveArray>;
    return this.#calls.run(calls.reduce(this, array, chosen), chosen);
  }

  /**
   * Reduces `array`, a block for each rank in rank order, element by element over all ranks; each rank gets its
   * block of the result. All ranks give arrays of one length, a multiple of the world size.
   *
   * @returns the array that holds this rank's block: `out`, or a new one.
   */
  reduceScatter<T extends CollectiveArray>(array: T, options?: ReduceScatterOptions<T>): Promise<T>;
  /** On device memory: docs/devices.md. */
  reduceScatter(buffer: DeviceBuffer, options: DeviceReduceScatterOptions): Promise<DeviceBuffer>;
  async reduceScatter(
    array: CollectiveArray | DeviceBuffer,
    options: ReduceScatterOptions<CollectiveArray> | DeviceReduceScatterOptions = {},
  ): Promise<CollectiveArray | DeviceBuffer> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceReduceScatterOptions;
      return this.#calls.runDevice(deviceCalls.reduceScatter(this, array, chosen), chosen);
    }
    const chosen = options as ReduceScatterOptions<CollectiveArray>;
    return this.#calls.run(calls.reduceScatter(this, array, chosen), chosen);
  }

  /**
   * Sends block j of `array` to rank j; the result has the block that rank i sent to this one in place i. All ranks
   * give arrays of one length, a multiple of the world size.
   *
   * @returns the array that holds the result: `out`, or a new one.
   */
  allToAll<T extends CollectiveArray>(array: T, options?: AllToAllOptions<T>): Promise<T>;
  /** On device memory: docs/devices.md. */
  allToAll(buffer: DeviceBuffer, options: DeviceOutOptions): Promise<DeviceBuffer>;
  async allToAll(
    array: CollectiveArray | DeviceBuffer,
    options: AllToAllOptions<CollectiveArray> | DeviceOutOptions = {},
  ): Promise<CollectiveArray | DeviceBuffer> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceOutOptions;
      return this.#calls.runDevice(deviceCalls.allToAll(this, array, chosen), chosen);
    }
    const chosen = options as AllToAllOptions<CollectiveArray>;
    return this.#calls.run(calls.allToAll(this, array, chosen), chosen);
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
  /** On device memory: docs/devices.md. */
  send(buffer: DeviceBuffer, options: DeviceSendOptions): Promise<void>;
  async send(array: CollectiveArray | DeviceBuffer, options: SendOptions | DeviceSendOptions): Promise<void> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceSendOptions;
      await this.#calls.runDevice(deviceCalls.send(this, array, chosen), chosen);
      return;
    }
    await this.#calls.message(calls.send(this, array, options as SendOptions), options);
  }

  /**
   * Receives into `array` what one rank sends with {@link send}.
   *
   * @returns the array.
   */
  recv<T extends CollectiveArray>(array: T, options: RecvOptions): Promise<T>;
  /** On device memory: docs/devices.md. */
  recv(buffer: DeviceBuffer, options: DeviceRecvOptions): Promise<DeviceBuffer>;
  async recv(
    array: CollectiveArray | DeviceBuffer,
    options: RecvOptions | DeviceRecvOptions,
  ): Promise<CollectiveArray | DeviceBuffer> {
    if (DeviceBuffer.is(array)) {
      const chosen = options as DeviceRecvOptions;
      return this.#calls.runDevice(deviceCalls.recv(this, array, chosen), chosen);
    }
    return this.#calls.message(calls.recv(this, array, options as RecvOptions), options);
  }

  /** Resolves once every rank has called it. */
  async barrier(options: OperationOptions = {}): Promise<void> {
    await this.#calls.run(calls.barrier(options), options);
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
    checkOptions('close', options, operationNames);
    if (options.timeoutMs !== undefined) checkTimeout('close', 'timeoutMs', options.timeoutMs);
    checkSignal('close', options.signal);
    if (this.#life.state === 'open') this.#life.state = 'closing';
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
  vote(op: VoteOp, values: number[] | bigint[], options?: OperationOptions): Promise<number[] & bigint[]> {
    return this.#calls.vote(op, values, options);
  }

  /** The same, blocking this thread. @internal */
  voteSync(op: 'max' | 'sum', values: number[], options: OperationOptions | undefined): number[];
  /** @internal */
  voteSync(op: 'min', values: bigint[], options: OperationOptions | undefined): bigint[];
  voteSync(op: VoteOp, values: number[] | bigint[], options?: OperationOptions): number[] & bigint[] {
    return this.#calls.voteSync(op, values, options);
  }

  #dump(reason: Dump['reason']): Dump {
    const group = dumpedGroup(this.#settled, this.#formed, this.#life.state);
    return makeDump(reason, group, this.#life.failure, this.operations(), this.stats());
  }

  #onEvent(event: NativeGroupEvent): void {
    this.#succession.onEvent(event);
    if (event.type === 'formed') this.#formed = this.#native.info() as NativeGroupInfo;
    if (event.type === 'failed') this.#life.fail(event.error);
    if (event.type === 'ended' && this.#life.failure === undefined) this.#life.state = 'closed';
  }
}
