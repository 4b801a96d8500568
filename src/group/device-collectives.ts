/** What collectives on device memory become: arguments checked before anything is sent. */

import { checkInteger, checkOptions, orDefault, refuse } from '../arguments.ts';
import { DeviceBuffer } from '../device/buffer.ts';
import type { MemoryHandle, StreamHandle } from '../device/lane.ts';
import { Stream } from '../device/stream.ts';
import { DType, type OpKind, ReduceOp } from '../native/binding.ts';
import type { DTypeName, ReduceOpName } from './arrays.ts';
import { type Caller, type OperationOptions, peerOf, tagOf } from './collectives.ts';
import { deviceNames } from './known-options.ts';

/** Options of every collective on device memory. */
export interface DeviceOptions extends OperationOptions {
  /** The type of the elements. */
  dtype: DTypeName;
  /** How many elements: of the buffer, or for reduceScatter and allToAll of one rank's block. All otherwise. */
  count?: number;
  /**
   * The operation runs in the order of this stream's work; otherwise on a stream of the group's own, in the order of
   * its operations, and what it works on must be ready.
   */
  stream?: Stream;
  /**
   * When the promise resolves: once the device is done (`done`, the default), or once the operation is on `stream`
   * (`enqueued`), so that work can be put behind it. A later failure is then the group's.
   */
  resolve?: 'done' | 'enqueued';
}
export interface DeviceReduceOptions extends DeviceOptions {
  /** Default `sum`. */
  op?: ReduceOpName;
  /** Where the result goes; the input itself otherwise. */
  out?: DeviceBuffer;
}
export interface DeviceRootOptions extends DeviceOptions {
  /** Default 0. */
  root?: number;
}
export interface DeviceReduceToOptions extends DeviceReduceOptions {
  /** The rank that gets the result. Default 0. */
  root?: number;
}
export interface DeviceOutOptions extends DeviceOptions {
  /** Where the result goes. */
  out: DeviceBuffer;
}
export interface DeviceReduceScatterOptions extends DeviceOutOptions {
  /** Default `sum`. */
  op?: ReduceOpName;
}

export interface DeviceSendOptions extends DeviceOptions {
  /** The rank it goes to: another than this one. */
  to: number;
  /** A whole number from 0 to 2^32 − 1 that the receiver has to name as well. Default 0. */
  tag?: number;
}
export interface DeviceRecvOptions extends DeviceOptions {
  /** The rank it comes from: another than this one. */
  from: number;
  /** The number that the sender names. Default 0. */
  tag?: number;
}

/** A call that can be run; handles and offsets are the native side's. */
export interface DeviceCall {
  op: keyof typeof OpKind;
  dtype: number;
  reduceOp: number;
  root: number;
  count: number;
  input: MemoryHandle | null;
  inputOffset: number;
  out: MemoryHandle | null;
  outOffset: number;
  stream: StreamHandle | null;
  untilEnqueued: boolean;
  tag: number;
  /** What the caller gets. */
  result: DeviceBuffer;
}

/** Bytes of an element. */
function sizeOf(dtype: DTypeName): number {
  if (dtype.startsWith('float8')) return 1;
  return Number(/\d+$/.exec(dtype)?.[0]) / 8;
}

function dtypeOf(op: string, named: unknown): DTypeName {
  if (typeof named !== 'string' || !Object.hasOwn(DType, named)) {
    throw refuse(op, 'dtype', `one of ${Object.keys(DType).join(', ')}`, named);
  }
  return named as DTypeName;
}

function reduceOpOf(op: string, named: unknown): number {
  const lower =
    typeof named === 'string' ? (named === named.toUpperCase() ? named.toLowerCase() : named) : '';
  const known = ['sum', 'prod', 'min', 'max', 'avg'];
  if (!known.includes(lower)) throw refuse(op, 'op', `one of ${known.join(', ')} on devices`, named);
  return ReduceOp[lower as 'sum'];
}

type Part = ReturnType<typeof DeviceBuffer.part>;

/** How much of its buffers a call uses, in blocks of `count` elements. */
interface Shape {
  /** Blocks in the input and in the output. */
  from: number;
  to: number;
  /** The output may be the input itself, */
  inPlace?: boolean;
  /** or a block of the other, at this place. */
  block?: number;
}

function overlaps(a: Part, aBytes: number, b: Part, bBytes: number): boolean {
  return a.allocation === b.allocation && a.offset < b.offset + bBytes && b.offset < a.offset + aBytes;
}

/** Reads what all calls have; `buffer` in and `options.out` out where the shape has both. */
function prepare(
  op: keyof typeof deviceNames,
  buffer: unknown,
  options: DeviceOptions & { out?: DeviceBuffer | undefined },
  shape: Shape,
): DeviceCall {
  const part = DeviceBuffer.part(buffer, op, 'array');
  const dtype = dtypeOf(op, options.dtype);
  const size = sizeOf(dtype);
  const blocks = Math.max(shape.from, 1);
  if (options.count === undefined && part.byteLength % (size * blocks) !== 0) {
    const unit = blocks === 1 ? `${dtype} elements` : `${blocks} blocks of ${dtype} elements`;
    throw refuse(op, "the buffer's length", `a whole number of ${unit}`, part.byteLength);
  }
  const most = Math.floor(part.byteLength / (size * blocks));
  const count = options.count === undefined ? most : checkInteger(op, 'count', options.count, 0, most);
  const inBytes = count * size * shape.from;
  const outBytes = count * size * shape.to;
  let out = part;
  if (options.out !== undefined) {
    out = DeviceBuffer.part(options.out, op, 'out');
    if (out.byteLength < outBytes) throw refuse(op, 'out', `at least ${outBytes} bytes long`, out.byteLength);
    const block = (shape.block ?? 0) * count * size;
    const whole = shape.inPlace === true && out.offset === part.offset;
    const within =
      shape.block !== undefined &&
      (shape.from > shape.to ? out.offset === part.offset + block : part.offset === out.offset + block);
    if (!whole && !within && overlaps(part, inBytes, out, outBytes)) {
      throw refuse(op, 'out', 'the input itself or memory apart from it', 'memory that overlaps it');
    }
  } else if (shape.inPlace !== true) {
    throw refuse(op, 'out', 'a DeviceBuffer for the result', options.out);
  }
  const resolve = orDefault(options.resolve, 'done');
  if (resolve !== 'done' && resolve !== 'enqueued') {
    throw refuse(op, 'resolve', "'done' or 'enqueued'", resolve);
  }
  const stream = options.stream === undefined ? null : Stream.handleOf(options.stream, op);
  if (resolve === 'enqueued' && stream === null) {
    throw refuse(
      op,
      'resolve',
      "'done' where no stream is given: nothing could be ordered behind it",
      resolve,
    );
  }
  return {
    op,
    dtype: DType[dtype],
    reduceOp: ReduceOp.none,
    root: -1,
    count,
    input: part.handle,
    inputOffset: part.offset,
    out: out.handle,
    outOffset: out.offset,
    stream,
    untilEnqueued: resolve === 'enqueued',
    tag: 0,
    result: options.out ?? (buffer as DeviceBuffer),
  };
}

const inPlace: Shape = { from: 1, to: 1, inPlace: true };

export function allReduce(buffer: DeviceBuffer, options: DeviceReduceOptions): DeviceCall {
  checkOptions('allReduce', options, deviceNames.allReduce);
  const call = prepare('allReduce', buffer, options, inPlace);
  return { ...call, reduceOp: reduceOpOf('allReduce', orDefault(options.op, 'sum')) };
}

export function broadcast(group: Caller, buffer: DeviceBuffer, options: DeviceRootOptions): DeviceCall {
  checkOptions('broadcast', options, deviceNames.broadcast);
  const call = prepare('broadcast', buffer, { ...options, out: undefined } as DeviceOptions, inPlace);
  return { ...call, root: checkInteger('broadcast', 'root', orDefault(options.root, 0), 0, group.size - 1) };
}

export function reduce(group: Caller, buffer: DeviceBuffer, options: DeviceReduceToOptions): DeviceCall {
  checkOptions('reduce', options, deviceNames.reduce);
  const root = checkInteger('reduce', 'root', orDefault(options.root, 0), 0, group.size - 1);
  const { out, ...rest } = options;
  const mine = root === group.rank && out !== undefined ? { ...rest, out } : rest;
  const call = prepare('reduce', buffer, mine, inPlace);
  return { ...call, root, reduceOp: reduceOpOf('reduce', orDefault(options.op, 'sum')) };
}

export function allGather(group: Caller, buffer: DeviceBuffer, options: DeviceOutOptions): DeviceCall {
  checkOptions('allGather', options, deviceNames.allGather);
  return prepare('allGather', buffer, options, { from: 1, to: group.size, block: group.rank });
}

export function reduceScatter(
  group: Caller,
  buffer: DeviceBuffer,
  options: DeviceReduceScatterOptions,
): DeviceCall {
  checkOptions('reduceScatter', options, deviceNames.reduceScatter);
  const call = prepare('reduceScatter', buffer, options, { from: group.size, to: 1, block: group.rank });
  return { ...call, reduceOp: reduceOpOf('reduceScatter', orDefault(options.op, 'sum')) };
}

export function allToAll(group: Caller, buffer: DeviceBuffer, options: DeviceOutOptions): DeviceCall {
  checkOptions('allToAll', options, deviceNames.allToAll);
  return prepare('allToAll', buffer, options, { from: group.size, to: group.size });
}

export function send(group: Caller, buffer: DeviceBuffer, options: DeviceSendOptions): DeviceCall {
  checkOptions('send', options, deviceNames.send);
  const call = prepare('send', buffer, { ...options, out: undefined } as DeviceOptions, inPlace);
  const root = peerOf('send', 'to', group, options.to);
  return { ...call, root, tag: tagOf('send', options.tag), out: null, outOffset: 0 };
}

export function recv(group: Caller, buffer: DeviceBuffer, options: DeviceRecvOptions): DeviceCall {
  checkOptions('recv', options, deviceNames.recv);
  const call = prepare('recv', buffer, { ...options, out: undefined } as DeviceOptions, inPlace);
  const root = peerOf('recv', 'from', group, options.from);
  return { ...call, root, tag: tagOf('recv', options.tag), input: null, inputOffset: 0 };
}
