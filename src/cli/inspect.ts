/** `node-collectives inspect`: what the dumps of a failed group's ranks say together. */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type Found, readDumps, type Unusable } from '../observe/read.ts';
import { storiesOf } from '../observe/story.ts';
import { storyText } from '../observe/text.ts';
import { traceOf } from '../observe/trace.ts';
import { didYouMean, UsageError } from './usage.ts';

const help = `Usage: node-collectives inspect [options] DUMP...

Reads the dumps of a group's ranks and says who failed, who saw it first, who waited for whom, and where the
ranks' calls part. DUMP is a file or a folder of them. Ranks write their dumps when their group fails, where
NODE_COLLECTIVES_DUMP_DIR names a folder; collect them from all hosts.

Options:
      --json           for machines
      --trace FILE     write a trace as well, for ui.perfetto.dev or chrome://tracing
  -h, --help           this text

The exit code is 0 where all was read, 3 where something that was named could not be read or a dump is
damaged, 1 where there is no dump at all, 2 for wrong arguments.

Example:
  node-collectives inspect /var/tmp/dumps
`;

const options = {
  json: { type: 'boolean' },
  trace: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const;

function parse(argv: readonly string[]) {
  const names = Object.keys(options);
  const { tokens } = parseArgs({
    args: [...argv],
    options,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  for (const token of tokens) {
    if (token.kind !== 'option' || names.includes(token.name)) continue;
    const hint = didYouMean(token.name, names, (name) => `--${name}`);
    throw new UsageError(`unknown option ${token.rawName}${hint}`, help);
  }
  try {
    return parseArgs({ args: [...argv], options, strict: true, allowPositionals: true });
  } catch (error) {
    throw new UsageError((error as Error).message.replace(/\.? To specify.*$/s, ''), help);
  }
}

/** Runs the command; resolves to the exit code. */
export async function inspectCommand(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parse(argv);
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  if (positionals.length === 0) throw new UsageError('no dump given', help);
  const found = readDumps(positionals);
  const dumps = found.dumps.map(({ dump }) => dump);
  const stories = storiesOf(dumps);
  if (values.trace !== undefined && dumps.length > 0) writeTrace(values.trace, dumps);
  if (values.json) {
    const files = found.dumps.map(({ file }) => file);
    process.stdout.write(
      `${JSON.stringify({ groups: stories, files, unusable: found.unusable }, undefined, 2)}\n`,
    );
  } else {
    process.stdout.write(stories.map(storyText).join('\n\n'));
    for (const line of complaints(found)) process.stderr.write(`${line}\n`);
  }
  if (dumps.length === 0) return 1;
  return found.unusable.some(matters) ? 3 : 0;
}

function writeTrace(file: string, dumps: Parameters<typeof traceOf>[0]): void {
  try {
    writeFileSync(file, JSON.stringify(traceOf(dumps)));
  } catch (error) {
    throw new UsageError(`the trace could not be written: ${(error as Error).message}`, help);
  }
}

/** Other files in a folder are nobody's mistake. */
function matters({ kind, named }: Unusable): boolean {
  return named || kind !== 'foreign';
}

function complaints({ dumps, unusable }: Found): string[] {
  const lines = unusable.filter(matters).map(({ file, why }) => `node-collectives: ${file}: ${why}`);
  if (dumps.length === 0) {
    lines.push(
      'node-collectives: there is no dump to inspect. Ranks write them where NODE_COLLECTIVES_DUMP_DIR is set.',
    );
  }
  return lines;
}
