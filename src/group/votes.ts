/** The votes by which the ranks of a data-parallel group stay in step. */
import { checkInteger, refuse } from '../arguments.ts';
import type { OperationOptions } from './collectives.ts';
import { ProcessGroup } from './process-group.ts';

const int64Max = 2n ** 63n - 1n;
const int64Min = -(2n ** 63n);

function checkGroup(op: string, group: unknown): asserts group is ProcessGroup {
  if (!(group instanceof ProcessGroup)) throw refuse(op, 'group', 'a ProcessGroup', group);
}

function flag(op: string, name: string, value: unknown): number {
  if (typeof value !== 'boolean') throw refuse(op, name, 'a boolean', value);
  return value ? 1 : 0;
}

/**
 * Whether any rank has unfinished work. Every rank must call it.
 *
 * @param hasUnfinished whether this rank has.
 */
export async function hasUnfinishedDp(
  group: ProcessGroup,
  hasUnfinished: boolean,
  options?: OperationOptions,
): Promise<boolean> {
  checkGroup('hasUnfinishedDp', group);
  const mine = flag('hasUnfinishedDp', 'hasUnfinished', hasUnfinished);
  const [any] = await group.vote('max', [mine], options);
  return any === 1;
}

/** hasUnfinishedDp(), blocking this thread; for engines in a worker thread of their own. */
export function hasUnfinishedDpSync(
  group: ProcessGroup,
  hasUnfinished: boolean,
  options?: OperationOptions,
): boolean {
  checkGroup('hasUnfinishedDpSync', group);
  const mine = flag('hasUnfinishedDpSync', 'hasUnfinished', hasUnfinished);
  return group.voteSync('max', [mine], options)[0] === 1;
}

function kvBytes(op: string, bytes: unknown): bigint {
  if (typeof bytes === 'number')
    checkInteger(op, 'bytes', bytes, -Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  else if (typeof bytes !== 'bigint') throw refuse(op, 'bytes', 'a bigint or a whole number', bytes);
  const value = BigInt(bytes as number | bigint);
  if (value < int64Min || value > int64Max) throw refuse(op, 'bytes', 'within 64 signed bits', value);
  return value === -1n ? int64Max : value;
}

/**
 * The smallest KV-cache memory that any rank offers. Every rank must call it.
 *
 * @param bytes what this rank offers, in bytes; -1 means no limit.
 * @returns bytes; 2^63 - 1 if no rank has a limit.
 */
export async function syncKvCacheMemorySize(
  group: ProcessGroup,
  bytes: bigint | number,
  options?: OperationOptions,
): Promise<bigint> {
  checkGroup('syncKvCacheMemorySize', group);
  const [least] = await group.vote('min', [kvBytes('syncKvCacheMemorySize', bytes)], options);
  return least as bigint;
}

/** syncKvCacheMemorySize(), blocking this thread. */
export function syncKvCacheMemorySizeSync(
  group: ProcessGroup,
  bytes: bigint | number,
  options?: OperationOptions,
): bigint {
  checkGroup('syncKvCacheMemorySizeSync', group);
  return group.voteSync('min', [kvBytes('syncKvCacheMemorySizeSync', bytes)], options)[0] as bigint;
}

/** What a rank brings to syncDpState(). */
export interface DpState {
  /** This rank has work. */
  hasUnfinished: boolean;
  /** This rank was asked to pause and waits for the others. */
  pendingPause: boolean;
}

/** What all ranks take from syncDpState(). */
export interface DpStateResult {
  /** Some rank has work, or only some ranks wait for a pause: go on stepping. */
  hasUnfinished: boolean;
  /** All ranks wait for a pause: pause now. */
  pauseConsensus: boolean;
}

function stateValues(op: string, state: DpState): number[] {
  if (typeof state !== 'object' || state === null) throw refuse(op, 'state', 'an object', state);
  return [flag(op, 'hasUnfinished', state.hasUnfinished), flag(op, 'pendingPause', state.pendingPause)];
}

function stateResult([unfinished, pausing]: number[], size: number): DpStateResult {
  const pauseConsensus = pausing === size;
  return {
    hasUnfinished: (unfinished as number) > 0 || ((pausing as number) > 0 && !pauseConsensus),
    pauseConsensus,
  };
}

/** hasUnfinishedDp() and the agreement on a pause in one exchange. Every rank must call it. */
export async function syncDpState(
  group: ProcessGroup,
  state: DpState,
  options?: OperationOptions,
): Promise<DpStateResult> {
  checkGroup('syncDpState', group);
  return stateResult(await group.vote('sum', stateValues('syncDpState', state), options), group.size);
}

/** syncDpState(), blocking this thread. */
export function syncDpStateSync(
  group: ProcessGroup,
  state: DpState,
  options?: OperationOptions,
): DpStateResult {
  checkGroup('syncDpStateSync', group);
  return stateResult(group.voteSync('sum', stateValues('syncDpStateSync', state), options), group.size);
}
