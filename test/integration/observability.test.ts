// What a group says of itself: its operations, its numbers, its events.
import { subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel';
import {
  formatPrometheus,
  hasUnfinishedDp,
  hasUnfinishedDpSync,
  type OperationMessage,
  type OperationRecord,
  type ProcessGroup,
} from 'node-collectives';
import { expect, test } from 'vitest';
import { closeAll, failureOf, formHere } from '../fixtures/lifecycle/groups.ts';

const everyone = (groups: readonly ProcessGroup[], call: (group: ProcessGroup) => Promise<unknown>) =>
  Promise.all(groups.map((group) => call(group)));

test('operations() has each call, how it ran, and its times in order', async () => {
  const groups = await formHere(2);
  const before = Date.now();
  await everyone(groups, (group) => hasUnfinishedDp(group, true));
  await everyone(groups, (group) => group.barrier());
  await everyone(groups, (group) => group.allReduce(new Float64Array(100_000), { op: 'avg' }));
  await everyone(groups, (group) => group.broadcast(new Uint8Array(10), { root: 1 }));
  await everyone(groups, (group) => group.allGather(new BigInt64Array(3)));
  await everyone(groups, (group) => group.allReduce(new Int16Array(0)));
  await everyone(groups, (group) => group.reduce(new Int32Array(8), { root: 1 }));
  await everyone(groups, (group) => group.reduceScatter(new Float32Array(1_000_000)));
  await everyone(groups, (group) => group.allToAll(new Uint8Array(6)));
  const after = Date.now();
  for (const group of groups) {
    const operations = group.operations();
    const shown = ({ seq, op, dtype, reduceOp, root, count, bytes, path, state }: OperationRecord) =>
      [seq, op, dtype, reduceOp ?? '', root ?? '', count, bytes, path, state].join(' ');
    expect(operations.map(shown)).toEqual([
      '1 allReduce int32 max  1 4 recursive doubling done',
      '2 barrier uint8   0 0 dissemination done',
      '3 allReduce float64 avg  100000 800000 gloo ring done',
      '4 broadcast uint8  1 10 10 gloo tree done',
      '5 allGather int64   3 24 direct done',
      '6 allReduce int16 sum  0 0 dissemination done',
      '7 reduce int32 sum 1 8 32 binomial tree done',
      '8 reduceScatter float32 sum  500000 4000000 ring done',
      '9 allToAll uint8   3 6 direct done',
    ]);
    for (const operation of operations) {
      // The two clocks are read a moment apart, and one may be slewed.
      expect(operation.calledAt).toBeGreaterThan(before - 5);
      expect(operation.begunAt).toBeGreaterThanOrEqual(operation.calledAt);
      expect(operation.endedAt).toBeGreaterThanOrEqual(operation.begunAt!);
      expect(operation.endedAt).toBeLessThan(after + 5);
      expect(operation.waitedMs).toBeLessThanOrEqual(operation.endedAt! - operation.begunAt!);
      expect(operation.error).toBeUndefined();
    }
  }
  await closeAll(groups);
  expect(groups[0]!.operations()).toHaveLength(9);
});

test('what runs and what waits for its turn is there as well, and who was missing afterwards', async () => {
  const groups = await formHere(3);
  const calls = [
    groups[0]!.barrier({ timeoutMs: 400 }),
    groups[0]!.allReduce(new Int32Array(7)),
    groups[0]!.broadcast(new Int32Array(2)),
  ].map((call) => failureOf(call));
  const first = failureOf(groups[2]!.barrier());
  const states = () => groups[0]!.operations().map(({ state }) => state);
  await expect.poll(states, { timeout: 5_000, interval: 1 }).toEqual(['running', 'queued', 'queued']);
  expect(groups[0]!.stats()).toMatchObject({ queued: 2, running: 1, done: 0, failed: 0 });
  expect(groups[0]!.operations()[0]).not.toHaveProperty('endedAt');
  await Promise.all([...calls, first]);
  const operations = groups[0]!.operations();
  for (const operation of operations)
    expect(operation).toMatchObject({ state: 'failed', error: 'TIMEOUT', missing: [1] });
  expect(operations[0]!.waitedMs).toBeGreaterThan(300);
  expect(operations[1]).not.toHaveProperty('begunAt');
  expect(groups[2]!.operations()).toMatchObject([{ state: 'failed', error: 'TIMEOUT', missing: [1] }]);
  expect(groups[1]!.operations()).toEqual([]);
  expect(groups[0]!.stats()).toMatchObject({ queued: 0, running: 0, failed: 3, failures: { TIMEOUT: 3 } });
  await closeAll(groups);
});

test('the last 256 operations are kept', async () => {
  const groups = await formHere(2);
  await everyone(groups, async (group) => {
    await Promise.all(Array.from({ length: 300 }, () => hasUnfinishedDp(group, false)));
  });
  const operations = groups[0]!.operations();
  expect(operations.map(({ seq }) => seq)).toEqual(Array.from({ length: 256 }, (_, i) => 45 + i));
  expect(groups[0]!.stats().kinds['allReduce']!.latency.count).toBe(300);
  await closeAll(groups);
});

test('a group of one rank', async () => {
  const groups = await formHere(1);
  await groups[0]!.allReduce(new Int32Array(4));
  expect(groups[0]!.operations()).toMatchObject([{ path: 'alone', state: 'done' }]);
  await closeAll(groups);
});

test('stats() counts, and its percentiles are in order', async () => {
  const groups = await formHere(2);
  for (let i = 0; i < 50; i += 1) await everyone(groups, (group) => hasUnfinishedDp(group, true));
  await everyone(groups, (group) => group.allReduce(new Float32Array(1_000_000)));
  await everyone(groups, (group) => group.barrier());
  const stats = groups[1]!.stats();
  expect(stats).toMatchObject({ rank: 1, size: 2, groupName: 'default', done: 52, failed: 0, failures: {} });
  expect(stats.bytes).toBe(50 * 4 + 4_000_000);
  const { latency, totalMs, waitedMs } = stats.kinds['allReduce']!;
  expect(latency.count).toBe(51);
  const { p50Ms, p90Ms, p99Ms, p999Ms, maxMs, meanMs } = latency;
  expect(p50Ms).toBeGreaterThan(0);
  const ascending = [p50Ms, p90Ms, p99Ms, p999Ms, maxMs];
  expect([...ascending].sort((a, b) => a - b)).toEqual(ascending);
  expect(p999Ms).toBe(maxMs);
  expect(meanMs * 51).toBeCloseTo(totalMs, 6);
  expect(waitedMs).toBeLessThanOrEqual(totalMs);
  expect(latency.buckets.reduce((sum, [, count]) => sum + count, 0)).toBe(51);
  const exact = groups[1]!.operations().filter(({ op }) => op === 'allReduce');
  const took = exact.map(({ calledAt, endedAt }) => endedAt! - calledAt).sort((a, b) => a - b);
  expect(p50Ms).toBeGreaterThanOrEqual(took[25]! - 0.001);
  expect(p50Ms).toBeLessThanOrEqual(took[25]! * (1 + 1 / 16) + 0.001);
  expect(maxMs).toBeCloseTo(took.at(-1)!, 2);
  // Each side's outgoing becomes the other's incoming.
  const link = (rank: number) => groups[rank]!.stats().links[0]!;
  expect(link(1).peer).toBe(0);
  expect(link(1).bytesIn).toBeGreaterThan(4_000_000);
  await expect.poll(() => link(0).framesIn, { interval: 1 }).toBe(link(1).framesOut);
  await expect.poll(() => link(0).bytesIn, { interval: 1 }).toBe(link(1).bytesOut);
  await closeAll(groups);
});

test('formatPrometheus() of two groups: well-formed, cumulative', async () => {
  const groups = await formHere(2, { groupName: 'a "b"\\' });
  await everyone(groups, (group) => hasUnfinishedDp(group, true));
  await failureOf(groups[0]!.barrier({ timeoutMs: 50 }));
  const page = formatPrometheus(
    groups.map((group) => group.stats()),
    { job: 'j' },
  );
  const labels = 'group="a \\"b\\"\\\\",rank="0",job="j"';
  expect(page).toContain(`node_collectives_failures_total{${labels},code="TIMEOUT"} 1\n`);
  expect(page).toContain(`node_collectives_operation_seconds_count{${labels},op="allReduce"} 1\n`);
  for (const line of page.trimEnd().split('\n')) {
    expect(line).toMatch(/^(# (HELP|TYPE) node_collectives_\w+ .+|node_collectives_\w+\{.*\} [\d.e+-]+)$/);
  }
  const buckets = [
    ...page.matchAll(/seconds_bucket\{[^}]*rank="1"[^}]*op="allReduce",le="([^"]+)"\} (\d+)/g),
  ].map((match) => Number(match[2]));
  expect(buckets.at(0)).toBe(0);
  expect(buckets.at(-1)).toBe(1);
  expect([...buckets].sort((a, b) => a - b)).toEqual(buckets);
  expect(page.match(/^# TYPE node_collectives_operation_seconds histogram$/gm)).toHaveLength(1);
  await closeAll(groups);
});

test('info() says how long each part of forming took', async () => {
  const before = performance.now();
  const groups = await formHere(3);
  const whole = performance.now() - before;
  for (const group of groups) {
    const { totalMs, devicesMs, ...parts } = group.info().formation;
    expect(devicesMs).toBeLessThan(0.1);
    expect(Object.keys(parts)).toEqual(['foundMs', 'registeredMs', 'metMs', 'linkedMs', 'agreedMs']);
    for (const part of Object.values(parts)) expect(part).toBeGreaterThan(0);
    expect(totalMs).toBeCloseTo(
      Object.values(parts).reduce((a, b) => a + b, devicesMs),
      6,
    );
    expect(totalMs).toBeLessThan(whole);
  }
  await closeAll(groups);
});

test('a subscriber hears of every operation, before its promise settles; of votes that block as well', async () => {
  const heard: OperationMessage[] = [];
  const listener = (message: unknown) => heard.push(message as OperationMessage);
  const groups = await formHere(1, { groupName: 'watched' });
  subscribe('node-collectives:operation', listener);
  try {
    await hasUnfinishedDp(groups[0]!, true);
    expect(heard).toHaveLength(1);
    await groups[0]!.barrier();
    hasUnfinishedDpSync(groups[0]!, true);
    expect(heard.map(({ operation }) => `${operation.seq} ${operation.op} ${operation.state}`)).toEqual([
      '1 allReduce done',
      '2 barrier done',
      '3 allReduce done',
    ]);
    expect(heard[0]).toMatchObject({ groupName: 'watched', rank: 0, size: 1 });
    expect(heard[0]!.operation).toEqual(
      expect.objectContaining({ calledAt: expect.any(Number), endedAt: expect.any(Number) }),
    );
  } finally {
    unsubscribe('node-collectives:operation', listener);
  }
  await groups[0]!.barrier();
  expect(heard).toHaveLength(3);
  await closeAll(groups);
});

test('groups that form and close are told, each once', async () => {
  const heard: string[] = [];
  const listenTo = (what: string) => {
    const listener = (message: unknown) => {
      const { groupName, rank, size } = message as { groupName: string; rank: number; size: number };
      if (groupName === 'told') heard.push(`${what} ${rank} of ${size}`);
    };
    subscribe(`node-collectives:${what}`, listener);
    return () => unsubscribe(`node-collectives:${what}`, listener);
  };
  const stop = ['formed', 'closed'].map(listenTo);
  try {
    const groups = await formHere(2, { groupName: 'told' });
    expect(heard.toSorted()).toEqual(['formed 0 of 2', 'formed 1 of 2']);
    await closeAll(groups);
    expect(heard.slice(2).toSorted()).toEqual(['closed 0 of 2', 'closed 1 of 2']);
  } finally {
    for (const each of stop) each();
  }
});

test('a failed operation is told as well', async () => {
  const heard: OperationMessage[] = [];
  const listener = (message: unknown) => heard.push(message as OperationMessage);
  subscribe('node-collectives:operation', listener);
  const groups = await formHere(2);
  try {
    await failureOf(groups[0]!.barrier({ timeoutMs: 50 }));
    expect(heard).toMatchObject([
      { rank: 0, operation: { state: 'failed', error: 'TIMEOUT', missing: [1] } },
    ]);
  } finally {
    unsubscribe('node-collectives:operation', listener);
  }
  await closeAll(groups);
});

test('the tracing channel has start and end of each operation, and its error', async () => {
  const said: string[] = [];
  const note = (what: string) => (message: unknown) => {
    const { op, seq, error } = message as { op: string; seq?: number; error?: { code: string } };
    said.push([what, op, seq, error?.code].filter((each) => each !== undefined).join(' '));
  };
  const handlers = {
    start: note('start'),
    end: note('end'),
    asyncStart: note('asyncStart'),
    asyncEnd: note('asyncEnd'),
    error: note('error'),
  };
  const channel = tracingChannel('node-collectives:operation');
  const groups = await formHere(2);
  channel.subscribe(handlers);
  try {
    await failureOf(groups[0]!.barrier({ timeoutMs: 50 }));
    expect(said).toEqual([
      'start barrier',
      'end barrier 1',
      'error barrier 1 TIMEOUT',
      'asyncStart barrier 1 TIMEOUT',
      'asyncEnd barrier 1 TIMEOUT',
    ]);
  } finally {
    channel.unsubscribe(handlers);
  }
  await closeAll(groups);
});
