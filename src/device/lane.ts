/** The native side of device memory: one thread for each JavaScript environment, started at first use. */
import { checkOptions, checkSignal, checkTimeout } from '../arguments.ts';
import { binding } from '../native/binding.ts';
import { within } from '../net/within.ts';
import { optionNames } from '../option-names.ts';

declare const brand: unique symbol;
/** A native handle: a tagged external that only the addon can look into. */
export interface Handle<Sort extends string> {
  readonly [brand]: Sort;
}
export type MemoryHandle = Handle<'memory'>;
export type StreamHandle = Handle<'stream'>;
export type EventHandle = Handle<'event'>;

/** Limits of a wait for a device. A device takes nothing back: what it has begun goes on after the wait has ended. */
export interface DeviceWaitOptions {
  /** Milliseconds. Default 300,000. */
  timeoutMs?: number;
  /** Ends the wait, not the work. */
  signal?: AbortSignal;
}

/** Names of DeviceWaitOptions, for the options that have more. */
export const waitLimits = { timeoutMs: true, signal: true } as const;
export const waitNames = optionNames<DeviceWaitOptions>(waitLimits);

/**
 * Waits for what the device's thread does, no longer than asked for: a driver that hangs never answers. Only the timer
 * of the wait keeps the event loop alive. That `options` are some, and have known names, is seen before.
 */
export async function waitFor<T>(
  op: string,
  device: number | undefined,
  options: DeviceWaitOptions,
  work: () => Promise<T>,
): Promise<T> {
  const { timeoutMs = 300_000, signal } = options;
  checkTimeout(op, 'timeoutMs', timeoutMs);
  checkSignal(op, signal);
  const on = device === undefined ? 'the driver' : `device ${device}`;
  const late = `${op}: ${on} was not done within ${timeoutMs} ms; what it has begun goes on`;
  return within(op, { timeoutMs, signal }, work, late);
}

/** A GPU that this process may use. */
export interface DeviceInfo {
  /** Its number among those that CUDA_VISIBLE_DEVICES or HIP_VISIBLE_DEVICES leave, from 0. */
  index: number;
  platform: 'cuda' | 'rocm';
  name: string;
  /** Empty where the driver does not tell. */
  uuid: string;
  /** On the PCI bus. */
  busId: string;
  memoryBytes: number;
}

export interface NativeDeviceLane {
  devices(): Promise<DeviceInfo[]>;
  allocate(device: number, bytes: number): Promise<[address: bigint, MemoryHandle]>;
  wrap(device: number, bytes: number, address: bigint): Promise<[address: bigint, MemoryHandle]>;
  copy(
    memory: MemoryHandle,
    offset: number,
    array: NodeJS.TypedArray,
    toDevice: boolean,
    stream: StreamHandle | null,
  ): Promise<void>;
  makeStream(device: number): Promise<[handle: bigint, StreamHandle]>;
  wrapStream(device: number, handle: bigint): Promise<[handle: bigint, StreamHandle]>;
  synchronize(on: StreamHandle | EventHandle, isEvent: boolean): Promise<void>;
}

interface DeviceBinding {
  DeviceLane: new (cudaPath: string, hipPath: string) => NativeDeviceLane;
  disposeHandle(handle: Handle<string>): void;
  recordEvent(stream: StreamHandle): EventHandle;
  waitEvent(stream: StreamHandle, event: EventHandle): void;
  eventDone(event: EventHandle): boolean;
}

export const devicesOf = (): DeviceBinding => binding() as unknown as DeviceBinding;

let started: NativeDeviceLane | undefined;

/** This environment's lane. */
export function lane(): NativeDeviceLane {
  started ??= new (devicesOf().DeviceLane)('', '');
  return started;
}

/**
 * The GPUs that this process may use. Loads the driver, which can take a second; nothing is allocated on them.
 *
 * @throws BackendUnavailableError that says what was looked for, where there is none; TimeoutError or AbortedError
 *   when the wait ends before the driver answers.
 */
export async function devices(options: DeviceWaitOptions = {}): Promise<DeviceInfo[]> {
  checkOptions('devices', options, waitNames);
  return waitFor('devices', undefined, options, () => lane().devices());
}

/** The device that a launcher has given to this process: LOCAL_RANK, or else the first. */
export function defaultDevice(env: NodeJS.ProcessEnv = process.env): number {
  const text = env['LOCAL_RANK'];
  return text !== undefined && /^\d{1,4}$/.test(text) ? Number(text) : 0;
}
