/** Where the ranks' calls part: the first operation that they called differently, or that some never called. */
import type { Dump } from './dump.ts';
import type { OperationRecord } from './stats.ts';

export type Parting =
  /** Ranks called different things as their `seq`-th operation. */
  | { kind: 'different'; seq: number; calls: { call: string; ranks: number[] }[] }
  /** Some ranks called it and were under way with it, and others had not called it. */
  | { kind: 'behind'; seq: number; call: string; called: number[]; behind: Behind[] };

export interface Behind {
  rank: number;
  /** The last operation that it called, if it called any. */
  last?: { seq: number; call: string; state: OperationRecord['state'] };
}

/** `allReduce(int32 x 4, max)`, as the messages of errors show it. */
export function callOf({ op, dtype, count, reduceOp, root, device }: OperationRecord): string {
  if (op === 'barrier') return 'barrier()';
  const parts = [`${dtype} x ${count}`];
  if (reduceOp !== undefined) parts.push(reduceOp);
  const other = { send: 'to rank', recv: 'from rank' }[op] ?? 'root';
  if (root !== undefined) parts.push(`${other} ${root}`);
  if (device === true) parts.push('on devices');
  return `${op}(${parts.join(', ')})`;
}

/** Not every rank takes part in the others, and the two that do call different things and count for themselves. */
export function isCollective({ op }: Pick<OperationRecord, 'op'>): boolean {
  return op !== 'send' && op !== 'recv';
}

export function partingOf(dumps: readonly Dump[]): Parting | undefined {
  const calls = new Map<number, Map<string, number[]>>();
  for (const { operations, group } of dumps) {
    for (const operation of operations.filter(isCollective)) {
      const of = calls.get(operation.seq) ?? new Map<string, number[]>();
      calls.set(operation.seq, of);
      const call = callOf(operation);
      of.set(call, [...(of.get(call) ?? []), group.rank]);
    }
  }
  const seqs = [...calls.keys()].sort((a, b) => a - b);
  for (const seq of seqs) {
    const of = calls.get(seq) as Map<string, number[]>;
    if (of.size > 1) {
      return { kind: 'different', seq, calls: [...of].map(([call, ranks]) => ({ call, ranks })) };
    }
  }
  return behindOf(dumps);
}

/** Only what has begun counts: a rank may well call many operations ahead. */
function behindOf(dumps: readonly Dump[]): Parting | undefined {
  const stuck = dumps.flatMap(({ operations }) =>
    operations.filter((each) => isCollective(each) && each.state !== 'done' && each.begunAt !== undefined),
  );
  const [first] = stuck.sort((a, b) => a.seq - b.seq);
  if (first === undefined) return undefined;
  const called: number[] = [];
  const behind: Behind[] = [];
  for (const { operations, group } of dumps) {
    const last = operations.filter(isCollective).at(-1);
    if (last !== undefined && last.seq >= first.seq) {
      called.push(group.rank);
      continue;
    }
    behind.push({
      rank: group.rank,
      ...(last === undefined ? {} : { last: { seq: last.seq, call: callOf(last), state: last.state } }),
    });
  }
  if (behind.length === 0) return undefined;
  return { kind: 'behind', seq: first.seq, call: callOf(first), called, behind };
}
