/**
 * The connections of one TcpStore. All quick operations go over one connection in the order they were called,
 * so a client reads its own writes. An operation that has to wait for keys first asks there, without waiting;
 * only where a key is missing does it wait, on a connection of its own, so that it holds up nothing else.
 */
import { ClosedError, TimeoutError } from '../errors.ts';
import { abortable } from '../net/abortable.ts';
import { LaneOp, type NativeStoreLane, storeClasses } from './lane.ts';

/** What one call sends, and what ends it. */
export interface Call {
  /** For errors, e.g. `store.get`. */
  name: string;
  op: LaneOp;
  keys: readonly string[];
  values?: readonly Uint8Array[];
  amount?: bigint;
  timeoutMs: number;
  signal: AbortSignal | undefined;
}

/** Milliseconds that a further connection may take before it is asked whether the server still is there. */
const slowMs = 500;

/** Waiting connections that are kept for the next wait. */
const keptIdle = 2;

export class Connections {
  readonly #host: string;
  readonly #port: number;
  readonly #secret: string;
  readonly #main: NativeStoreLane;
  readonly #idle: NativeStoreLane[] = [];
  readonly #waiting = new Set<NativeStoreLane>();
  #closed = false;

  /**
   * @param host numeric
   * @param secret empty for none
   */
  constructor(host: string, port: number, secret: string) {
    this.#host = host;
    this.#port = port;
    this.#secret = secret;
    this.#main = this.#lane();
  }

  get closed(): boolean {
    return this.#closed;
  }

  #lane(): NativeStoreLane {
    const { StoreLane } = storeClasses();
    return new StoreLane(this.#host, this.#port, this.#secret);
  }

  /** Makes the main connection, retrying until `timeoutMs` have passed. Closes everything when that fails. */
  async connect(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    try {
      await abortable('store.connect', signal, () => this.#main.call(LaneOp.connect, [], [], 0n, timeoutMs));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** One request that the server answers at once, on the main connection. */
  run(call: Call): Promise<unknown> {
    if (this.#closed) return Promise.reject(closedError(call.name));
    return abortable(call.name, call.signal, () =>
      this.#main.call(call.op, call.keys, call.values ?? [], call.amount ?? 0n, call.timeoutMs),
    );
  }

  /** The values of all keys once they are there. */
  async fetch(call: Call): Promise<Uint8Array[]> {
    const began = performance.now();
    const there = await this.run({ ...call, op: LaneOp.tryGet });
    return (there ?? (await this.#onOwnLane(call, LaneOp.get, began))) as Uint8Array[];
  }

  /** Resolves once all keys are there. */
  async wait(call: Call): Promise<void> {
    const began = performance.now();
    if (await this.run({ ...call, op: LaneOp.check })) return;
    await this.#onOwnLane(call, LaneOp.wait, began);
  }

  async #onOwnLane(call: Call, op: LaneOp, began: number): Promise<unknown> {
    if (this.#closed) throw closedError(call.name);
    const left = () => Math.max(1, Math.ceil(call.timeoutMs - (performance.now() - began)));
    const lane = this.#idle.pop() ?? this.#lane();
    this.#waiting.add(lane);
    try {
      return await abortable(
        call.name,
        call.signal,
        async () => {
          await this.#reach(lane, left);
          return lane.call(op, call.keys, [], 0n, left());
        },
        // There is no use for its answer any more, and closing is quicker than cancelling the wait in order.
        () => lane.close(),
      );
    } finally {
      this.#waiting.delete(lane);
      if (lane.usable && !call.signal?.aborted && !this.#closed && this.#idle.length < keptIdle) {
        this.#idle.push(lane);
      } else {
        lane.close();
      }
    }
  }

  /**
   * Connects a further lane. Connecting alone would retry to the end of its time, for a server that may be
   * yet to come; this one has been there, and the main connection tells whether it still is.
   */
  async #reach(lane: NativeStoreLane, left: () => number): Promise<void> {
    for (;;) {
      try {
        await lane.call(LaneOp.connect, [], [], 0n, Math.min(left(), slowMs));
        return;
      } catch (error) {
        if (this.#closed || left() <= 1) throw error;
        await this.#main.call(LaneOp.check, [], [], 0n, left());
        if (!(error instanceof TimeoutError)) throw error;
      }
    }
  }

  /** Ends all that is pending with ClosedError. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const lane of [this.#main, ...this.#idle.splice(0), ...this.#waiting]) lane.close();
  }
}

function closedError(name: string): ClosedError {
  return new ClosedError(`${name}: the store is closed`, { op: name });
}
