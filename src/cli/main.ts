#!/usr/bin/env node
/** The command line `node-collectives`. */

import { readFileSync } from 'node:fs';
import { CollectivesError } from '../errors.ts';
import { launchCommand } from './launch.ts';
import { didYouMean, UsageError } from './usage.ts';

const help = `Usage: node-collectives COMMAND [ARGS...]

Commands:
  launch    start the ranks of a job on this host
  config    what a parallel configuration resolves to on this machine
  doctor    what a process group would find on this machine, and what to do about it
  inspect   what the dumps of a failed group say: who failed, who waited for whom

Options:
  -h, --help       this text; COMMAND --help for that of a command
  -v, --version    the version
`;

const commands: Readonly<Record<string, (argv: readonly string[]) => Promise<number>>> = {
  launch: launchCommand,
  doctor: async (argv) => (await import('./doctor.ts')).doctorCommand(argv),
  inspect: async (argv) => (await import('./inspect.ts')).inspectCommand(argv),
  config: async (argv) => (await import('./config.ts')).configCommand(argv),
};

function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

async function main([name, ...argv]: readonly string[]): Promise<number> {
  if (name === '-h' || name === '--help' || name === 'help') {
    process.stdout.write(help);
    return 0;
  }
  if (name === '-v' || name === '--version') {
    process.stdout.write(`${version()}\n`);
    return 0;
  }
  if (name === undefined) throw new UsageError('no command given', help);
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined) {
    const hint = didYouMean(name, Object.keys(commands), (meant) => meant);
    throw new UsageError(`unknown ${name.startsWith('-') ? 'option' : 'command'} ${name}${hint}`, help);
  }
  return await command(argv);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`node-collectives: ${error.message}\n\n${error.help}`);
    process.exitCode = 2;
  } else if (error instanceof CollectivesError) {
    process.stderr.write(`node-collectives: ${error.message} (${error.code})\n`);
    process.exitCode = 1;
  } else {
    throw error;
  }
}
