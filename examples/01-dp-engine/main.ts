/**
 * The example's command: checks the trace, starts the engines, shows their progress. See
 * docs/example-dp-engine.md.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { help, parseOptions } from './options.ts';
import { ProgressView } from './progress.ts';
import { describeProblems, parseTrace } from './trace.ts';

// Found through the package, so that it does not matter where this file was compiled to.
const library = import.meta.resolve('node-collectives');
const launcher = fileURLToPath(new URL('./cli/main.js', library));
const ownTrace = fileURLToPath(new URL('../examples/01-dp-engine/trace.csv', library));
const engine = fileURLToPath(new URL('./engine.js', import.meta.url));

async function main(args: string[]): Promise<number> {
  const options = parseOptions(args);
  if (options === 'help') {
    process.stdout.write(help);
    return 0;
  }
  const file = options.trace === undefined ? ownTrace : resolve(options.trace);
  const { requests, problems } = parseTrace(readFileSync(file, 'utf8'));
  for (const text of describeProblems(problems)) console.error(`trace ${text}`);
  if (requests.length === 0) throw new Error(`${file} has no requests`);
  const count = Math.min(requests.length, options.limit);
  const span = requests[count - 1]?.arrival ?? 0;
  console.log(`${count} requests over ${span.toFixed(0)} s from ${file}, ${options.nproc} engines`);

  const terminal = process.stdout.isTTY === true;
  const progress =
    terminal && !args.some((arg) => arg.startsWith('--progress-ms')) ? ['--progress-ms', '100'] : [];
  const command = [
    'launch',
    '--nproc',
    String(options.nproc),
    '--',
    process.execPath,
    '--enable-source-maps',
    engine,
  ];
  const child = spawn(process.execPath, [launcher, ...command, ...args, '--trace', file, ...progress], {
    stdio: ['ignore', terminal ? 'pipe' : 'inherit', terminal ? 'pipe' : 'inherit'],
  });
  // A terminal's Ctrl-C reaches the launcher too; who is told alone passes it on.
  process.on('SIGINT', () => {});
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));

  const view = new ProgressView(
    options.nproc,
    (text) => process.stdout.write(text),
    () => process.stdout.columns ?? 80,
  );
  const read = [child.stdout, child.stderr].map(async (stream) => {
    if (stream === null) return;
    const lines = createInterface({ input: stream }).on('line', (line) => view.line(unprefixed(line)));
    await once(lines, 'close');
  });
  const [code] = (await once(child, 'close')) as [number | null];
  await Promise.all(read);
  view.end();
  return code ?? 1;
}

/** The table is rank 0's alone: without its prefix it fits the terminal. Progress lines keep theirs. */
function unprefixed(line: string): string {
  return line.startsWith('[rank 0] ') && !line.startsWith('[rank 0] progress ') ? line.slice(9) : line;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 2;
}
