/** One rank of a vote benchmark; started by processes.ts with its place in the environment. */
import { hasUnfinishedDp } from 'node-collectives';
import { group } from './group.ts';
import { quantile } from './statistics.ts';

const { rank, size } = group;
const iterations = Number(process.env['ITERATIONS']);
const warmUp = 200;
const micros = new Float64Array(iterations);
for (let i = 0; i < warmUp + iterations; i += 1) {
  const begin = performance.now();
  const any = await hasUnfinishedDp(group, i % size === rank);
  const took = performance.now() - begin;
  if (!any) throw new Error('a wrong vote');
  if (i >= warmUp) micros[i - warmUp] = took * 1000;
}
await group.close();
micros.sort();
if (rank === 0)
  process.stdout.write(`${JSON.stringify({ p50: quantile(micros, 0.5), p99: quantile(micros, 0.99) })}\n`);
