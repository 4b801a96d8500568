/** Streams and events of a device, to order collectives with an engine's own work. */

import { checkInteger, checkOptions, orDefault, refuse } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import { optionNames } from '../option-names.ts';
import {
  type DeviceWaitOptions,
  defaultDevice,
  devicesOf,
  type EventHandle,
  lane,
  type StreamHandle,
  waitFor,
  waitLimits,
  waitNames,
} from './lane.ts';

/** What a stream is made from. */
export interface StreamOptions extends DeviceWaitOptions {
  /** Number of the device; LOCAL_RANK or 0 otherwise. */
  device?: number;
}

const createNames = optionNames<StreamOptions>({ ...waitLimits, device: true });
const wrapNames = optionNames<StreamOptions & { handle: bigint }>({
  ...waitLimits,
  device: true,
  handle: true,
});

/**
 * A queue of work on a device: what is put on it runs in order. Freed by `using`, dispose(), or with the object.
 */
export class Stream {
  readonly #handle: StreamHandle;
  /** Number of its device. */
  readonly device: number;
  /** The driver's own handle (CUstream, hipStream_t), for an engine that puts work on it. */
  readonly handle: bigint;

  private constructor(handle: StreamHandle, device: number, raw: bigint) {
    this.#handle = handle;
    this.device = device;
    this.handle = raw;
  }

  /**
   * A new stream, which does not wait for the device's default stream.
   *
   * @throws BackendUnavailableError where there is no GPU; InvalidArgumentError for a wrong device.
   */
  static async create(options: StreamOptions = {}): Promise<Stream> {
    checkOptions('Stream.create', options, createNames);
    const device = checkDevice('Stream.create', orDefault(options.device, defaultDevice()));
    const [raw, handle] = await waitFor('Stream.create', device, options, () => lane().makeStream(device));
    return new Stream(handle, device, raw);
  }

  /**
   * A stream that somebody else owns, and keeps for as long as this object is used; it is not checked, and
   * dispose() leaves it alone. 0n is the device's default stream.
   */
  static async wrap(options: StreamOptions & { handle: bigint }): Promise<Stream> {
    checkOptions('Stream.wrap', options, wrapNames);
    const device = checkDevice('Stream.wrap', orDefault(options.device, defaultDevice()));
    const { handle } = options;
    if (typeof handle !== 'bigint' || handle < 0n || handle >= 2n ** 64n) {
      throw refuse('Stream.wrap', 'handle', 'a bigint of 64 bits', handle);
    }
    const [raw, native] = await waitFor('Stream.wrap', device, options, () =>
      lane().wrapStream(device, handle),
    );
    return new Stream(native, device, raw);
  }

  /**
   * Resolves once all that is on it now is done. No thread waits.
   *
   * @throws TimeoutError, AbortedError: the wait is over, what is on the stream goes on.
   */
  async synchronize(options: DeviceWaitOptions = {}): Promise<void> {
    checkOptions('Stream.synchronize', options, waitNames);
    await waitFor('Stream.synchronize', this.device, options, () => lane().synchronize(this.#handle, false));
  }

  /** An event behind all that is on it now. */
  record(): Event {
    return Event.of(devicesOf().recordEvent(this.#handle), this.device);
  }

  /** What is put on it from now on runs after `event`; does not wait here. */
  wait(event: Event): void {
    devicesOf().waitEvent(this.#handle, Event.handleOf(event, 'wait'));
  }

  /** Gives it back; what is on it still runs. */
  dispose(): void {
    devicesOf().disposeHandle(this.#handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal */
  static handleOf(value: unknown, op: string): StreamHandle {
    if (typeof value !== 'object' || value === null || !(#handle in value)) {
      throw refuse(op, 'stream', 'a Stream', value);
    }
    return value.#handle;
  }
}

/** A point in a stream's work. */
export class Event {
  readonly #handle: EventHandle;
  /** Number of its device. */
  readonly device: number;

  private constructor(handle: EventHandle, device: number) {
    this.#handle = handle;
    this.device = device;
  }

  /** Whether the work before it is done. */
  query(): boolean {
    return devicesOf().eventDone(this.#handle);
  }

  /** Resolves once the work before it is done; throws as Stream.synchronize(). */
  async synchronize(options: DeviceWaitOptions = {}): Promise<void> {
    checkOptions('Event.synchronize', options, waitNames);
    await waitFor('Event.synchronize', this.device, options, () => lane().synchronize(this.#handle, true));
  }

  dispose(): void {
    devicesOf().disposeHandle(this.#handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal */
  static of(handle: EventHandle, device: number): Event {
    return new Event(handle, device);
  }

  /** @internal */
  static handleOf(value: unknown, op: string): EventHandle {
    if (typeof value !== 'object' || value === null || !(#handle in value)) {
      throw refuse(op, 'event', 'an Event', value);
    }
    return value.#handle;
  }
}

export function checkDevice(op: string, device: unknown): number {
  if (typeof device !== 'number') throw refuse(op, 'device', 'the number of a device', device);
  try {
    return checkInteger(op, 'device', device, 0, 65_535);
  } catch {
    throw new InvalidArgumentError(`${op}: device must be the number of a device, from 0, but is ${device}`, {
      op,
    });
  }
}
