/** `npm run bench -- config`: how long a configuration takes to resolve, and the package to import. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { currentHost } from '../src/config/host.ts';
import type { ParallelConfigInput } from '../src/config/parallel-settings.ts';
import { ParallelConfig } from '../src/group/parallel-config.ts';
import { cudaHost as cuda } from '../test/helpers/host-facts.ts';
import { median, quantile } from './statistics.ts';

const env = {};

const cases: Record<string, () => ParallelConfig> = {
  'defaults, this machine': () => new ParallelConfig({}, { host: currentHost(), env }),
  'defaults, process.env': () => new ParallelConfig(),
  'tp 4, dp 2, eplb, given machine': () => {
    const settings: ParallelConfigInput = {
      tensorParallelSize: 4,
      dataParallelSize: 2,
      enableExpertParallel: true,
      enableEplb: true,
      eplbConfig: { windowSize: 500, numRedundantExperts: 2 },
    };
    return new ParallelConfig(settings, { host: cuda, env });
  },
  'the same from snake_case text': () =>
    ParallelConfig.fromSnakeCase(
      {
        tensor_parallel_size: '4',
        data_parallel_size: '2',
        enable_dbo: 'yes',
        eplb_config: { window_size: '500' },
      },
      { host: cuda, env },
    ),
};

function report(name: string, work: () => unknown, runs: number): void {
  for (let i = 0; i < 200; i += 1) work();
  const times: number[] = [];
  for (let i = 0; i < runs; i += 1) {
    const start = process.hrtime.bigint();
    work();
    times.push(Number(process.hrtime.bigint() - start) / 1000);
  }
  times.sort((a, b) => a - b);
  console.log(
    `${name.padEnd(40)} ${quantile(times, 0.5).toFixed(1).padStart(8)} ${quantile(times, 0.99).toFixed(1).padStart(8)}`,
  );
}

/**
 * Milliseconds in a new process each, by the process's own clock; and of the processor, which load does not
 * blur.
 */
function importTimes(): void {
  const entry = [
    new URL('../../../dist/index.js', import.meta.url),
    new URL('../dist/index.js', import.meta.url),
  ]
    .map((url) => fileURLToPath(url))
    .find((file) => existsSync(file));
  if (entry === undefined) {
    console.log('dist/ is not built: no import time');
    return;
  }
  const program = `const start = performance.now(), cpu = process.cpuUsage();
    await import(${JSON.stringify(entry)});
    const used = process.cpuUsage(cpu);
    console.log(performance.now() - start, (used.user + used.system) / 1000);`;
  const runs = Array.from({ length: 15 }, () => {
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      encoding: 'utf8',
    });
    return stdout.trim().split(' ').map(Number);
  });
  const at = (column: number) => median(runs.map((run) => run[column] ?? Number.NaN)).toFixed(1);
  console.log(`import: ${at(0)} ms, of the processor ${at(1)} ms (median of ${runs.length})`);
}

export async function config(_args: string[]): Promise<void> {
  const start = performance.now();
  new ParallelConfig({}, { host: cuda, env });
  console.log(`first configuration, loads zod: ${(performance.now() - start).toFixed(1)} ms\n`);
  console.log(`${'microseconds'.padEnd(40)} ${'median'.padStart(8)} ${'p99'.padStart(8)}`);
  for (const [name, work] of Object.entries(cases)) report(name, work, 3000);
  const made = new ParallelConfig({}, { host: cuda, env });
  report('computeHash()', () => made.computeHash(), 3000);
  const dp = () =>
    new ParallelConfig(
      { dataParallelSize: 2 },
      { host: { ...cuda, openPorts: currentHost().openPorts }, env },
    ).releaseHeldPorts();
  report('dp 2, five ports bound and released', dp, 300);
  console.log();
  importTimes();
}
