/** One rank of the benchmark of comparing; its place is in the environment, and its parent says what to call. */
import { DeviceBuffer, hasUnfinishedDp } from 'node-collectives';
import { group, onDevice } from './group.ts';
import { quantile } from './statistics.ts';

/** So many calls of one operation. */
export interface Turn {
  operation: string;
  calls: number;
}
export interface Turned {
  /** Which there are, once, before the first turn. */
  names?: string[];
  /** Median of a call. */
  micros: number;
}

const { rank, size } = group;

const right = (rank + 1) % size;
const left = (rank + size - 1) % size;

type Operation = [name: string, call: () => Promise<unknown>];

function onCpu(): Operation[] {
  const operations: Operation[] = [
    ['vote', () => hasUnfinishedDp(group, false)],
    ['barrier', () => group.barrier()],
  ];
  for (const bytes of [1024, 65_536, 1_048_576]) {
    const array = new Float32Array(bytes / 4);
    operations.push([`allReduce, ${bytes / 1024} KiB`, () => group.allReduce(array, { op: 'max' })]);
  }
  const block = new Float32Array(16_384);
  const got = new Float32Array(16_384);
  const all = new Float32Array(16_384 * size);
  operations.push(
    ['allGather, 64 KiB each', () => group.allGather(block, { out: all })],
    ['broadcast, 64 KiB', () => group.broadcast(block)],
    [
      'send and recv, 64 KiB',
      () => Promise.all([group.send(block, { to: right }), group.recv(got, { from: left })]),
    ],
  );
  return operations;
}

async function onDevices(): Promise<Operation[]> {
  const device = group.info().device?.index ?? 0;
  const place = (bytes: number) => DeviceBuffer.allocate(bytes, { device });
  const operations: Operation[] = [
    ['vote', () => hasUnfinishedDp(group, false)],
    ['barrier', () => group.barrier()],
  ];
  for (const bytes of [1024, 65_536, 1_048_576]) {
    const buffer = await place(bytes);
    operations.push([
      `allReduce, ${bytes / 1024} KiB`,
      () => group.allReduce(buffer, { dtype: 'float32', op: 'max' }),
    ]);
  }
  const [block, got, all] = [await place(65_536), await place(65_536), await place(65_536 * size)];
  operations.push(
    ['allGather, 64 KiB each', () => group.allGather(block, { dtype: 'float32', out: all })],
    ['broadcast, 64 KiB', () => group.broadcast(block, { dtype: 'float32' })],
  );
  operations.push([
    'send and recv, 64 KiB',
    () =>
      Promise.all([
        group.send(block, { to: right, dtype: 'float32' }),
        group.recv(got, { from: left, dtype: 'float32' }),
      ]),
  ]);
  return operations;
}

const operations = new Map(onDevice ? await onDevices() : onCpu());
// All have been called once before anybody measures.
for (const call of operations.values()) await call();

async function take({ operation, calls }: Turn): Promise<Turned> {
  const call = operations.get(operation) as Operation[1];
  const micros = new Float64Array(calls);
  for (let i = 0; i < calls; i += 1) {
    const begin = performance.now();
    await call();
    micros[i] = (performance.now() - begin) * 1000;
  }
  micros.sort();
  return { micros: quantile(micros, 0.5) };
}

process.on('message', async (turn: Turn) => process.send?.(await take(turn)));
process.once('disconnect', () => group.close());
process.send?.({ names: [...operations.keys()], micros: 0 } satisfies Turned);
