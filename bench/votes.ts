/**
 * A vote from JavaScript, awaited, beside Gloo's own ring over its own TCP transport in C++, in the same run:
 * rounds take turns, so that whatever else the machine does meets both.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ours, type Sample } from './processes.ts';
import { median } from './statistics.ts';

const root = fileURLToPath(new URL(process.env['NC_ROOT'] ?? '../../../', import.meta.url));

function plainGloo(ranks: number, iterations: number): Sample {
  const program = `${root}build/bench/gloo_ring`;
  return JSON.parse(
    execFileSync(program, [String(ranks), String(iterations)], { encoding: 'utf8' }),
  ) as Sample;
}

function buildPeer(): void {
  const options = ['-DNC_BUILD_ADDON=OFF', '-DNC_BUILD_BENCH=ON', '-DCMAKE_BUILD_TYPE=Release'];
  execFileSync('cmake', ['-S', root, '-B', `${root}build/bench`, ...options], { stdio: 'ignore' });
  execFileSync('cmake', ['--build', `${root}build/bench`, '--target', 'gloo_ring', '-j2'], {
    stdio: 'inherit',
  });
}

export async function votes(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      ranks: { type: 'string', default: '2,4,8' },
      iterations: { type: 'string', default: '3000' },
      rounds: { type: 'string', default: '5' },
    },
  });
  buildPeer();
  const iterations = Number(values.iterations);
  const limits: Record<number, { p50: number; p99?: number }> = {
    2: { p50: 1 },
    4: { p50: 0.5 },
    8: { p50: 0.5, p99: 0.2 },
  };
  console.log(
    'one vote (MAX of an int32), µs; ours from JavaScript, awaited; plain Gloo: its ring over its TCP, C++',
  );
  console.log('ranks   ours p50    p99   Gloo p50    p99   ratio p50    p99   wanted');
  for (const ranks of values.ranks.split(',').map(Number)) {
    const mine: Sample[] = [];
    const theirs: Sample[] = [];
    for (let round = 0; round < Number(values.rounds); round += 1) {
      mine.push(await ours(ranks, iterations));
      theirs.push(plainGloo(ranks, iterations));
    }
    const of = (samples: Sample[], key: keyof Sample) => median(samples.map((sample) => sample[key]));
    const [p50, p99, gloo50, gloo99] = [
      of(mine, 'p50'),
      of(mine, 'p99'),
      of(theirs, 'p50'),
      of(theirs, 'p99'),
    ];
    const limit = limits[ranks];
    const wanted = limit ? `p50 <= ${limit.p50}${limit.p99 ? `, p99 <= ${limit.p99}` : ''}` : '';
    const met =
      limit === undefined ||
      (p50 / gloo50 <= limit.p50 && (limit.p99 === undefined || p99 / gloo99 <= limit.p99));
    if (!met) process.exitCode = 1;
    const cells = [ranks, p50, p99, gloo50, gloo99].map((n, i) =>
      n.toFixed(i === 0 ? 0 : 1).padStart(i === 0 ? 5 : 9),
    );
    console.log(
      `${cells.join(' ')}   ${(p50 / gloo50).toFixed(2).padStart(6)} ${(p99 / gloo99).toFixed(2).padStart(6)}   ${wanted} ${met ? 'met' : 'NOT MET'}`,
    );
    const spread = (samples: Sample[]) => samples.map((sample) => sample.p50.toFixed(0)).join(' ');
    console.log(`        p50 of each round: ours ${spread(mine)}; Gloo ${spread(theirs)}`);
  }
}
