/** Memory on a device. */

import { checkInteger, checkOptions, orDefault, refuse } from '../arguments.ts';
import { ClosedError } from '../errors.ts';
import { type CollectiveArray, checkArray } from '../group/arrays.ts';
import { optionNames } from '../option-names.ts';
import {
  type DeviceWaitOptions,
  defaultDevice,
  devicesOf,
  lane,
  type MemoryHandle,
  waitFor,
  waitLimits,
} from './lane.ts';
import { checkDevice, Stream } from './stream.ts';

/**
 * Options of copies. After a TimeoutError or AbortedError the copy may still go on: leave the array alone until the
 * stream is synchronized.
 */
export interface CopyOptions extends DeviceWaitOptions {
  /**
   * The stream that carries it; otherwise one for all copies that name none. A copy gets there a moment after the
   * call, and collectives do from another thread: await the one before you make the other. Arrays of over 4 MiB go
   * piece by piece.
   */
  stream?: Stream;
  /** Bytes from the buffer's start. Default 0. */
  byteOffset?: number;
}

const allocateNames = optionNames<DeviceWaitOptions & { device?: number }>({ ...waitLimits, device: true });
const wrapNames = optionNames<DeviceWaitOptions & { address: bigint; bytes: number; device?: number }>({
  ...waitLimits,
  address: true,
  bytes: true,
  device: true,
});
const copyNames = optionNames<CopyOptions>({ ...waitLimits, stream: true, byteOffset: true });

/** What the parts of one allocation share. */
interface Allocation {
  handle: MemoryHandle;
  disposed: boolean;
}

/**
 * A piece of memory on a device: bytes without a type. Freed by `using`, dispose(), with the object, or at the end
 * of the environment; where an operation still uses it then, at the end of that.
 */
export class DeviceBuffer {
  readonly #allocation: Allocation;
  readonly #offset: number;
  readonly #address: bigint;
  readonly byteLength: number;
  /** Number of its device. */
  readonly device: number;

  private constructor(
    allocation: Allocation,
    offset: number,
    byteLength: number,
    device: number,
    address: bigint,
  ) {
    this.#allocation = allocation;
    this.#offset = offset;
    this.byteLength = byteLength;
    this.device = device;
    this.#address = address;
  }

  /**
   * New memory, with anything in it.
   *
   * @param options `device`: its number; LOCAL_RANK or 0 otherwise.
   * @throws BackendUnavailableError where there is no GPU; InvalidArgumentError for a wrong device; ResourceError
   *   when the device has not that much left.
   */
  static async allocate(
    bytes: number,
    options: DeviceWaitOptions & { device?: number } = {},
  ): Promise<DeviceBuffer> {
    const op = 'DeviceBuffer.allocate';
    checkInteger(op, 'bytes', bytes, 0, Number.MAX_SAFE_INTEGER);
    checkOptions(op, options, allocateNames);
    const device = checkDevice(op, orDefault(options.device, defaultDevice()));
    const [address, handle] = await waitFor(op, device, options, () => lane().allocate(device, bytes));
    return new DeviceBuffer({ handle, disposed: false }, 0, bytes, device, address);
  }

  /**
   * Memory that somebody else owns, and keeps for as long as this object is used. The driver is asked whether it is
   * device memory, on that device and of at least that size.
   *
   * @throws InvalidArgumentError where it is not.
   */
  static async wrap(
    options: DeviceWaitOptions & { address: bigint; bytes: number; device?: number },
  ): Promise<DeviceBuffer> {
    const op = 'DeviceBuffer.wrap';
    checkOptions(op, options, wrapNames);
    const { address, bytes } = options;
    if (typeof address !== 'bigint' || address <= 0n || address >= 2n ** 64n) {
      throw refuse(op, 'address', 'a bigint of 64 bits, not 0', address);
    }
    checkInteger(op, 'bytes', bytes, 0, Number.MAX_SAFE_INTEGER);
    const device = checkDevice(op, orDefault(options.device, defaultDevice()));
    const [, handle] = await waitFor(op, device, options, () => lane().wrap(device, bytes, address));
    return new DeviceBuffer({ handle, disposed: false }, 0, bytes, device, address);
  }

  /** Where it lies, for an engine that works on it. */
  get address(): bigint {
    this.#check('address');
    return this.#address;
  }

  /** A part of it, which shares its memory and its end. */
  subarray(byteOffset: number, bytes: number = this.byteLength - byteOffset): DeviceBuffer {
    this.#check('subarray');
    checkInteger('subarray', 'byteOffset', byteOffset, 0, this.byteLength);
    checkInteger('subarray', 'bytes', bytes, 0, this.byteLength - byteOffset);
    const address = this.#address + BigInt(byteOffset);
    return new DeviceBuffer(this.#allocation, this.#offset + byteOffset, bytes, this.device, address);
  }

  /**
   * Copies `array` to the device, through pinned memory; it must not be changed until the promise resolves, which it
   * does when the device has the data.
   */
  async copyFrom(array: CollectiveArray, options: CopyOptions = {}): Promise<void> {
    await this.#copy('copyFrom', array, true, options);
  }

  /** Copies from the device; resolves with `array` once it holds the data. */
  async copyTo<T extends CollectiveArray>(array: T, options: CopyOptions = {}): Promise<T> {
    await this.#copy('copyTo', array, false, options);
    return array;
  }

  async #copy(op: string, array: CollectiveArray, toDevice: boolean, options: CopyOptions): Promise<void> {
    this.#check(op);
    checkArray(op, 'array', array);
    checkOptions(op, options, copyNames);
    const { byteOffset = 0 } = options;
    checkInteger(op, 'byteOffset', byteOffset, 0, this.byteLength);
    if (array.byteLength > this.byteLength - byteOffset) {
      throw refuse(op, 'array', `at most ${this.byteLength - byteOffset} bytes long`, array.byteLength);
    }
    const stream = options.stream === undefined ? null : Stream.handleOf(options.stream, op);
    const offset = this.#offset + byteOffset;
    await waitFor(op, this.device, options, () =>
      lane().copy(this.#allocation.handle, offset, array, toDevice, stream),
    );
  }

  /** Gives the memory back, that of all its parts; using them afterwards is an error. May be called again. */
  dispose(): void {
    if (this.#allocation.disposed) return;
    this.#allocation.disposed = true;
    devicesOf().disposeHandle(this.#allocation.handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #check(op: string): void {
    if (this.#allocation.disposed) {
      throw new ClosedError(`${op}: the DeviceBuffer has been disposed of`, { op });
    }
  }

  /** @internal */
  static is(value: unknown): value is DeviceBuffer {
    return typeof value === 'object' && value !== null && #allocation in value;
  }

  /** What the native side needs of it. @internal */
  static part(
    value: unknown,
    op: string,
    name: string,
  ): { handle: MemoryHandle; offset: number; byteLength: number; allocation: object } {
    if (!DeviceBuffer.is(value)) throw refuse(op, name, 'a DeviceBuffer', value);
    value.#check(op);
    const allocation = value.#allocation;
    return { handle: allocation.handle, offset: value.#offset, byteLength: value.byteLength, allocation };
  }
}
