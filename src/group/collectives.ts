/** Options of the collectives, and what each call becomes: arguments checked, result's place chosen. */

import { checkInteger, checkOptions, orDefault, refuse } from '../arguments.ts';
import type { OpKind } from '../native/binding.ts';
import { ReduceOp } from '../native/binding.ts';
import {
  type CollectiveArray,
  checkArray,
  checkOut,
  type DTypeName,
  dtypeOf,
  type ReduceOpName,
  reduceOpOf,
  sameKind,
} from './arrays.ts';
import { arrayNames, operationNames } from './known-options.ts';

/** Options of one call. */
export interface OperationOptions {
  /** Milliseconds this operation may take; the group's `timeoutMs` otherwise. */
  timeoutMs?: number;
  /**
   * Aborts the group when it fires, or if it has fired already, as `group.abort()` does: one operation alone cannot be
   * taken back, since the other ranks take part in it. A blocking call looks at it once, before anything is sent.
   */
  signal?: AbortSignal;
}
/** Options of a call with an array. */
export interface ArrayOptions extends OperationOptions {
  /**
   * The element type, where the array's own is another: `float16` or `bfloat16` in a Uint16Array, `float8e4m3` or
   * `float8e5m2` (moved, not reduced) in a Uint8Array.
   */
  dtype?: DTypeName;
  /** In a GPU group: through pinned memory and the device, instead of over the CPUs' links. */
  staging?: boolean;
}
export interface AllReduceOptions<T extends CollectiveArray> extends ArrayOptions {
  /** Default `sum`. */
  op?: ReduceOpName;
  /** Where the result goes; the input itself otherwise. */
  out?: T;
}
export interface BroadcastOptions extends ArrayOptions {
  /** The rank whose values all get. Default 0. */
  root?: number;
}
export interface AllGatherOptions<T extends CollectiveArray> extends ArrayOptions {
  /** Where the parts go, rank after rank: world size times the input's length. A new array otherwise. */
  out?: T;
}
export interface ReduceOptions<T extends CollectiveArray> extends ArrayOptions {
  /** Default `sum`. */
  op?: ReduceOpName;
  /** The rank that gets the result. Default 0. */
  root?: number;
  /** Where the result goes on the root; the input itself otherwise. Looked at on the root only. */
  out?: T;
}
export interface ReduceScatterOptions<T extends CollectiveArray> extends ArrayOptions {
  /** Default `sum`. */
  op?: ReduceOpName;
  /**
   * Where this rank's block of the result goes: the input's length divided by the world size. May be this rank's
   * block of the input. A new array otherwise.
   */
  out?: T;
}
export interface AllToAllOptions<T extends CollectiveArray> extends ArrayOptions {
  /** Where the blocks go, rank after rank: as long as the input, which it may be. A new array otherwise. */
  out?: T;
}

export interface SendOptions extends ArrayOptions {
  /** The rank it goes to: another than this one. */
  to: number;
  /** A whole number from 0 to 2^32 − 1 that the receiver has to name as well. Default 0. */
  tag?: number;
}
export interface RecvOptions extends ArrayOptions {
  /** The rank it comes from: another than this one. */
  from: number;
  /** The number that the sender names. Default 0. */
  tag?: number;
}

/** A rank of the group that calls. */
export interface Caller {
  rank: number;
  size: number;
}

/** A call that can be run. */
export interface Call<T extends CollectiveArray = CollectiveArray> {
  op: keyof typeof OpKind;
  dtype: DTypeName;
  reduceOp: number;
  /** The rank that is named, -1 where none is. */
  root: number;
  /** Elements of the array, or of one rank's block. */
  count: number;
  input: T;
  out: T;
}

export function allReduce<T extends CollectiveArray>(array: T, options: AllReduceOptions<T>): Call<T> {
  const dtype = begin('allReduce', array, options);
  const reduceOp = reduceOpOf('allReduce', orDefault(options.op, 'sum'), dtype);
  const out = orDefault(options.out, array);
  if (out !== array) checkOut('allReduce', array, out, array.length);
  return { op: 'allReduce', dtype, reduceOp, root: -1, count: array.length, input: array, out };
}

export function broadcast<T extends CollectiveArray>(
  group: Caller,
  array: T,
  options: BroadcastOptions,
): Call<T> {
  const dtype = begin('broadcast', array, options);
  const root = checkInteger('broadcast', 'root', orDefault(options.root, 0), 0, group.size - 1);
  return { op: 'broadcast', ...moved, dtype, root, count: array.length, input: array, out: array };
}

export function allGather<T extends CollectiveArray>(
  group: Caller,
  array: T,
  options: AllGatherOptions<T>,
): Call<T> {
  const dtype = begin('allGather', array, options);
  const length = array.length * group.size;
  if (options.out !== undefined) checkOut('allGather', array, options.out, length, true);
  const out = options.out ?? sameKind(array, length);
  return { op: 'allGather', ...moved, dtype, count: array.length, input: array, out };
}

export function reduce<T extends CollectiveArray>(
  group: Caller,
  array: T,
  options: ReduceOptions<T>,
): Call<T> {
  const dtype = begin('reduce', array, options);
  const reduceOp = reduceOpOf('reduce', orDefault(options.op, 'sum'), dtype);
  const root = checkInteger('reduce', 'root', orDefault(options.root, 0), 0, group.size - 1);
  const out = root === group.rank ? orDefault(options.out, array) : array;
  if (out !== array) checkOut('reduce', array, out, array.length);
  return { op: 'reduce', dtype, reduceOp, root, count: array.length, input: array, out };
}

export function reduceScatter<T extends CollectiveArray>(
  group: Caller,
  array: T,
  options: ReduceScatterOptions<T>,
): Call<T> {
  const dtype = begin('reduceScatter', array, options);
  const reduceOp = reduceOpOf('reduceScatter', orDefault(options.op, 'sum'), dtype);
  const count = blockOf('reduceScatter', group, array);
  if (options.out !== undefined) {
    checkArray('reduceScatter', 'out', options.out);
    const ownBlock = array.byteOffset + group.rank * count * array.BYTES_PER_ELEMENT;
    const inside = options.out.buffer === array.buffer && options.out.byteOffset === ownBlock;
    checkOut('reduceScatter', array, options.out, count, inside);
  }
  const out = options.out ?? sameKind(array, count);
  return { op: 'reduceScatter', dtype, reduceOp, root: -1, count, input: array, out };
}

export function allToAll<T extends CollectiveArray>(
  group: Caller,
  array: T,
  options: AllToAllOptions<T>,
): Call<T> {
  const dtype = begin('allToAll', array, options);
  const count = blockOf('allToAll', group, array);
  if (options.out !== undefined) checkOut('allToAll', array, options.out, array.length);
  const out = options.out ?? sameKind(array, array.length);
  return { op: 'allToAll', ...moved, dtype, count, input: array, out };
}

/** A message between two ranks that can be run. */
export interface Message<T extends CollectiveArray = CollectiveArray> {
  op: 'send' | 'recv';
  dtype: DTypeName;
  peer: number;
  tag: number;
  array: T;
}

export function send<T extends CollectiveArray>(group: Caller, array: T, options: SendOptions): Message<T> {
  return message('send', group, array, options, 'to', () => options.to);
}

export function recv<T extends CollectiveArray>(group: Caller, array: T, options: RecvOptions): Message<T> {
  return message('recv', group, array, options, 'from', () => options.from);
}

/** `peer` is asked for once the options are known to be some. */
function message<T extends CollectiveArray>(
  op: 'send' | 'recv',
  group: Caller,
  array: T,
  options: SendOptions | RecvOptions,
  named: string,
  peer: () => number,
): Message<T> {
  const dtype = begin(op, array, options);
  return { op, dtype, peer: peerOf(op, named, group, peer()), tag: tagOf(op, options.tag), array };
}

export function barrier(options: OperationOptions): Call {
  checkOptions('barrier', options, operationNames);
  return { op: 'barrier', ...moved, dtype: 'uint8', count: 0, input: nothing, out: nothing };
}

const nothing = new Uint8Array(0);
const moved = { reduceOp: ReduceOp.none, root: -1 };

function begin(op: keyof typeof arrayNames, array: unknown, options: ArrayOptions): DTypeName {
  checkArray(op, 'array', array);
  checkOptions(op, options, arrayNames[op]);
  return dtypeOf(op, array, options.dtype);
}

/** The other rank of a message. */
export function peerOf(op: string, what: string, group: Caller, value: unknown): number {
  if (group.size === 1) throw refuse(op, what, 'another rank, of which this group has none', value);
  const peer = checkInteger(op, what, value, 0, group.size - 1);
  if (peer === group.rank) throw refuse(op, what, 'another rank than this one', value);
  return peer;
}

export function tagOf(op: string, value: unknown): number {
  return value === undefined ? 0 : checkInteger(op, 'tag', value, 0, 2 ** 32 - 1);
}

/** The length of one rank's block of `array`. */
function blockOf(op: string, group: Caller, array: CollectiveArray): number {
  if (array.length % group.size !== 0) {
    throw refuse(op, "array's length", `a multiple of the world size, ${group.size}`, array.length);
  }
  return array.length / group.size;
}
