/** Checks of what collectives are called with: every mistake is found before anything is sent. */
import { types } from 'node:util';
import { refuse, refuseAs } from '../arguments.ts';
import { DType, ReduceOp } from '../native/binding.ts';

/**
 * Arrays that collectives take. Memory is used in place; it must not be touched until the promise settles.
 */
export type CollectiveArray =
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | Float32Array
  | Float64Array;

/**
 * Element types. `float16` and `bfloat16` are held in a Uint16Array, `float8e4m3` and `float8e5m2` in a Uint8Array;
 * these four have to be named.
 */
export type DTypeName = keyof typeof DType;

type LowerReduceOpName = Exclude<keyof typeof ReduceOp, 'none'>;
/**
 * Reductions, in small letters or capitals. `band`, `bor`, `bxor` take integers only; `avg` of integers is
 * exact and rounds towards zero.
 */
export type ReduceOpName = LowerReduceOpName | Uppercase<LowerReduceOpName>;

type ArrayConstructor = new (length: number) => CollectiveArray;

/** A new array of the same kind; not `new array.constructor()`, which is anything for a subclass. */
export function sameKind<T extends CollectiveArray>(array: T, length: number): T {
  if (Buffer.isBuffer(array)) return Buffer.alloc(length) as unknown as T;
  return new (globalThis[array[Symbol.toStringTag] as 'Uint8Array'] as ArrayConstructor)(length) as T;
}

const natural = new Map<string, DTypeName>([
  ['Int8Array', 'int8'],
  ['Uint8Array', 'uint8'],
  ['Uint8ClampedArray', 'uint8'],
  ['Int16Array', 'int16'],
  ['Uint16Array', 'uint16'],
  ['Int32Array', 'int32'],
  ['Uint32Array', 'uint32'],
  ['BigInt64Array', 'int64'],
  ['BigUint64Array', 'uint64'],
  ['Float32Array', 'float32'],
  ['Float64Array', 'float64'],
]);

/** Types that no array has by itself, and what they are held in. */
const heldIn = new Map<string, string>([
  ['float16', 'Uint16Array'],
  ['bfloat16', 'Uint16Array'],
  ['float8e4m3', 'Uint8Array'],
  ['float8e5m2', 'Uint8Array'],
]);

function isDetached(buffer: ArrayBuffer): boolean {
  if (buffer.byteLength !== 0) return false;
  try {
    // Making a view is what tells a detached buffer from an empty one on Node 20.
    new Uint8Array(buffer);
    return false;
  } catch {
    return true;
  }
}

/** Checks one array; `what` names the argument in messages. */
export function checkArray(op: string, what: string, value: unknown): asserts value is CollectiveArray {
  const kind = types.isTypedArray(value) ? value[Symbol.toStringTag] : undefined;
  if (kind === undefined || !natural.has(kind)) {
    throw refuse(op, what, `a typed array of ${[...natural.keys()].join(', ')}`, value);
  }
  const { buffer } = value as CollectiveArray;
  if (!(buffer instanceof ArrayBuffer) && types.isSharedArrayBuffer(buffer)) {
    throw refuseAs(op, what, 'over an ArrayBuffer of its own', 'over a SharedArrayBuffer');
  }
  if ((buffer as { resizable?: boolean }).resizable === true) {
    throw refuseAs(op, what, 'over an ArrayBuffer of fixed length', 'over a resizable one');
  }
  if (isDetached(buffer as ArrayBuffer))
    throw refuseAs(op, what, 'over a live ArrayBuffer', 'over a detached one');
}

/** The element type of `array`, or the one named, which must fit it. */
export function dtypeOf(op: string, array: CollectiveArray, named: unknown): DTypeName {
  const own = natural.get(array[Symbol.toStringTag]) as DTypeName;
  if (named === undefined) return own;
  if (typeof named !== 'string' || !Object.hasOwn(DType, named)) {
    throw refuse(op, 'dtype', `one of ${Object.keys(DType).join(', ')}`, named);
  }
  const holder = heldIn.get(named);
  if (named !== own && holder !== array[Symbol.toStringTag]) {
    throw refuse(op, 'dtype', holder === undefined ? own : `${own}; ${named} is held in a ${holder}`, named);
  }
  return named as DTypeName;
}

export function reduceOpOf(op: string, named: unknown, dtype: DTypeName): number {
  const lower =
    typeof named === 'string' ? (named === named.toUpperCase() ? named.toLowerCase() : named) : '';
  if (lower === 'none' || !Object.hasOwn(ReduceOp, lower)) {
    const names = Object.keys(ReduceOp).filter((name) => name !== 'none');
    throw refuse(op, 'op', `one of ${names.join(', ')}`, named);
  }
  if (dtype.startsWith('float8')) {
    throw refuse(op, 'dtype', 'a type that the CPU reduces; 8-bit floats are only moved there', dtype);
  }
  if ((lower === 'band' || lower === 'bor' || lower === 'bxor') && dtype.includes('float')) {
    throw refuse(op, 'op', `sum, prod, min, max or avg for ${dtype}`, named);
  }
  return ReduceOp[lower as LowerReduceOpName];
}

/** `out` has to be of `input`'s type, `length` long, and `input` itself or apart from it. */
export function checkOut(
  op: string,
  input: CollectiveArray,
  out: unknown,
  length: number,
  inside = false,
): void {
  checkArray(op, 'out', out);
  if (out[Symbol.toStringTag] !== input[Symbol.toStringTag]) {
    throw refuse(op, 'out', `a ${input[Symbol.toStringTag]} like the input`, out);
  }
  if (out.length !== length) throw refuse(op, 'out', `${length} elements long`, out.length);
  const same =
    out.buffer === input.buffer && out.byteOffset === input.byteOffset && out.length === input.length;
  if (!same && !inside && overlaps(input, out)) {
    throw refuseAs(op, 'out', 'the input itself or memory apart from it', 'overlapping it');
  }
}

function overlaps(a: CollectiveArray, b: CollectiveArray): boolean {
  return (
    a.buffer === b.buffer &&
    a.byteOffset < b.byteOffset + b.byteLength &&
    b.byteOffset < a.byteOffset + a.byteLength
  );
}
