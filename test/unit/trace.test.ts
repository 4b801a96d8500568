// The trace file: well-formed by the rules of the Trace Event Format that its viewers insist on.
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type Trace, type TraceEvent, traceOf } from '../../src/observe/trace.ts';
import { call, dumpOf, votes } from '../helpers/dumps.ts';

const shared = {
  name: z.string().min(1),
  pid: z.number().int().positive(),
  tid: z.number().int().nonnegative(),
  ts: z.number().nonnegative(),
};
const args = z.record(z.string(), z.unknown()).optional();
const cat = z.string().min(1);
const id = z.string().min(1);
const event = z.discriminatedUnion('ph', [
  z.strictObject({
    ...shared,
    ph: z.literal('M'),
    name: z.enum(['process_name', 'process_sort_index', 'thread_name']),
    args: z.union([z.object({ name: z.string().min(1) }), z.object({ sort_index: z.number() })]),
  }),
  z.strictObject({ ...shared, ph: z.literal('X'), dur: z.number().nonnegative(), cat, args }),
  z.strictObject({ ...shared, ph: z.enum(['b', 'e']), cat, id, args }),
  z.strictObject({ ...shared, ph: z.literal('i'), s: z.enum(['g', 'p', 't']), cat, args }),
  z.strictObject({ ...shared, ph: z.literal('s'), cat, id }),
  z.strictObject({ ...shared, ph: z.literal('f'), bp: z.literal('e'), cat, id }),
]);
const schema = z.strictObject({
  traceEvents: z.array(event),
  displayTimeUnit: z.literal('ms'),
  otherData: z.record(z.string(), z.string()),
});

/** What a schema cannot say: order, pairs, spans that do not overlap, arrows between spans. */
function check(trace: Trace): void {
  const read = JSON.parse(JSON.stringify(trace)) as Trace;
  expect(schema.safeParse(read).error).toBeUndefined();
  const events = read.traceEvents;
  expect(events.map(({ ts }) => ts)).toEqual(events.map(({ ts }) => ts).sort((a, b) => a - b));
  const of = (ph: TraceEvent['ph']) => events.filter((each) => each.ph === ph);
  const open = new Map<string, TraceEvent>();
  for (const each of events.filter(({ ph }) => ph === 'b' || ph === 'e')) {
    const key = `${each.cat} ${each.id}`;
    if (each.ph === 'b') {
      expect(open.has(key)).toBe(false);
      open.set(key, each);
    } else {
      expect(open.get(key)).toMatchObject({ name: each.name, pid: each.pid });
      open.delete(key);
    }
  }
  expect([...open.keys()]).toEqual([]);
  const ends = new Map<string, number>();
  for (const { pid, tid, ts, dur, cat: kind } of of('X').filter((each) => each.cat !== 'failure')) {
    expect(ts, `${kind} on ${pid}/${tid}`).toBeGreaterThanOrEqual(ends.get(`${pid}/${tid}`) ?? 0);
    ends.set(`${pid}/${tid}`, ts + dur!);
  }
  const spanAt = ({ pid, tid, ts }: TraceEvent) =>
    of('X').some((x) => x.pid === pid && x.tid === tid && x.ts <= ts && ts <= x.ts + x.dur!);
  for (const arrow of [...of('s'), ...of('f')]) expect(spanAt(arrow), JSON.stringify(arrow)).toBe(true);
  expect(of('s').map((each) => each.id)).toEqual(
    of('f')
      .map((each) => each.id)
      .sort((a, b) => of('s').findIndex((s) => s.id === a) - of('s').findIndex((s) => s.id === b)),
  );
  const named = new Set(
    of('M').map(({ pid, tid, name }) => `${name} ${pid} ${name === 'thread_name' ? tid : 0}`),
  );
  for (const { pid, tid, ph } of events) {
    if (ph === 'M') continue;
    expect(named).toContain(`process_name ${pid} 0`);
    expect(named).toContain(`thread_name ${pid} ${tid}`);
  }
}

const failure = { code: 'RANK_LOST', peer: 2 };
const group = () =>
  [0, 1, 3].map((rank) =>
    dumpOf({
      rank,
      operations: [...votes(4), call(5, { at: 60, ms: 100 + rank, state: 'failed', error: 'RANK_LOST' })],
      failure: { ...failure, ...(rank === 1 ? {} : { rank: 1, consequence: true }) },
      failedAt: 160 + (rank === 1 ? 0 : rank + 1),
    }),
  );

describe('traces', () => {
  test('of a failed group: each operation once in each track, arrows from who saw it first', () => {
    const trace = traceOf(group());
    check(trace);
    const spans = trace.traceEvents.filter(({ ph, cat: kind }) => ph === 'X' && kind !== 'failure');
    expect(spans).toHaveLength(15);
    expect(spans.find(({ name }) => name.startsWith('5 '))).toMatchObject({
      name: '5 allReduce(int32 x 1, max)',
      cat: 'failed',
    });
    expect(trace.traceEvents.filter(({ ph }) => ph === 'b')).toHaveLength(15);
    const arrows = trace.traceEvents.filter(({ ph }) => ph === 's');
    expect(arrows.map(({ pid }) => pid)).toEqual([2, 2]);
    expect(trace.traceEvents.filter(({ ph }) => ph === 'i')).toHaveLength(3);
  });

  test('of what is pending, and of several that run at a time', () => {
    const { begunAt: _, ...queued } = call(9, { at: 60, state: 'queued' });
    const overlapping = [6, 7, 8].map((seq) => call(seq, { at: 50 + seq, ms: 20, device: true }));
    const trace = traceOf([
      dumpOf({ rank: 0, operations: [...votes(4), ...overlapping, call(5, { at: 55 }), queued] }),
    ]);
    check(trace);
    const tids = new Set(trace.traceEvents.filter(({ ph }) => ph === 'X').map(({ tid }) => tid));
    expect(tids.size).toBe(4);
  });

  test('of several generations, and of nothing', () => {
    const later = group().map((dump) => ({
      ...dump,
      group: { ...dump.group, generation: 1, instance: 'def' },
    }));
    const trace = traceOf([...group(), ...later]);
    check(trace);
    expect(new Set(trace.traceEvents.map(({ pid }) => pid)).size).toBe(6);
    check(traceOf([]));
  });
});
