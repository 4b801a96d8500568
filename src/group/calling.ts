/** How calls reach the native group: checked, under their deadline and signal, told to who watches, their errors noted. */

import { checkOptions, checkSignal, checkTimeout, orDefault, refuse } from '../arguments.ts';
import type { DeviceBuffer } from '../device/buffer.ts';
import { AbortedError, ClosedError } from '../errors.ts';
import { DType, type NativeGroup, OpKind, ReduceOp } from '../native/binding.ts';
import { abortReason, whenAborted } from '../net/abortable.ts';
import type { CollectiveArray } from './arrays.ts';
import type { Call, Message, OperationOptions } from './collectives.ts';
import type { DeviceCall } from './device-collectives.ts';
import { channels, type OperationMessage, operationTrace, report } from './events.ts';
import { operationNames } from './known-options.ts';
import type { Life } from './life.ts';
import type { Settled } from './options.ts';

export type VoteOp = 'max' | 'sum' | 'min';

export class Caller {
  readonly #settled: Settled;
  readonly #native: NativeGroup;
  readonly #life: Life;
  #batching = false;

  constructor(settled: Settled, native: NativeGroup, life: Life) {
    this.#settled = settled;
    this.#native = native;
    this.#life = life;
  }

  /** An all-reduce of a few numbers that the native side holds itself: the way of the votes. */
  async vote(
    op: VoteOp,
    values: number[] | bigint[],
    options: OperationOptions = {},
  ): Promise<number[] & bigint[]> {
    checkOptions('vote', options, operationNames);
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
      throw this.#life.noted(error);
    }
  }

  /** The same, blocking this thread. */
  voteSync(op: VoteOp, values: number[] | bigint[], options: OperationOptions = {}): number[] & bigint[] {
    checkOptions('vote', options, operationNames);
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
      throw this.#life.noted(error);
    }
  }

  get #deviceVotes(): boolean {
    return this.#settled.backend.votes.path === 'device';
  }

  /** The limit in ms. That `options` are some, and have known names, is seen before. */
  #checked(op: string, options: OperationOptions): number {
    const timeoutMs = orDefault(options.timeoutMs, this.#settled.timeoutMs);
    checkTimeout(op, 'timeoutMs', timeoutMs);
    checkSignal(op, options.signal);
    if (this.#life.state === 'closing' || this.#life.state === 'closed') {
      throw new ClosedError(`${op}: the group is closed on this rank`, {
        rank: this.#settled.native.rank,
        op,
      });
    }
    if (options.signal?.aborted) throw this.#abortedBefore(op, options.signal);
    return Math.ceil(timeoutMs);
  }

  /** The others may wait for this rank in that operation already: they have to hear that it will not come. */
  #abortedBefore(op: string, signal: AbortSignal): unknown {
    const reason = abortReason(signal);
    this.#native.abort(reason);
    const { rank } = this.#settled.native;
    const facts = { rank, peer: rank, detectedBy: rank, op };
    return this.#life.noted(
      this.#life.failure ?? new AbortedError(`aborted by rank ${rank}: ${reason}`, facts),
    );
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

  async run<T extends CollectiveArray>(call: Call<T>, options: OperationOptions): Promise<T> {
    const { op, dtype, reduceOp, root, count, input, out } = call;
    const timeoutMs = this.#checked(op, options);
    const staged = this.#staged(op, options);
    try {
      const start = () =>
        this.#native.run(OpKind[op], DType[dtype], reduceOp, root, count, input, out, timeoutMs, staged);
      await this.#under(options.signal, isWatched() ? () => this.#watched(op, start) : start);
    } catch (error) {
      throw this.#life.noted(error);
    }
    return out;
  }

  async message<T extends CollectiveArray>(message: Message<T>, options: OperationOptions): Promise<T> {
    const { op, dtype, peer, tag, array } = message;
    const timeoutMs = this.#checked(op, options);
    const staged = this.#staged(op, options);
    try {
      if (staged) this.#inBatch();
      await this.#under(options.signal, () =>
        this.#native.message(OpKind[op], DType[dtype], peer, tag, array.length, array, timeoutMs, staged),
      );
    } catch (error) {
      throw this.#life.noted(error);
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

  async runDevice(call: DeviceCall, options: OperationOptions): Promise<DeviceBuffer> {
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
      throw this.#life.noted(error);
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
}

function isWatched(): boolean {
  return channels.operation.hasSubscribers || operationTrace.hasSubscribers;
}
