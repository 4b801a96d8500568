/** `node-collectives launch`: arguments in, exit code out. */

import { parseArgs } from 'node:util';
import { type LaunchOptions, launch } from '../launch/launch.ts';
import { didYouMean, UsageError } from './usage.ts';

export const launchHelp = `Usage: node-collectives launch --nproc N [options] [--] PROGRAM [ARGS...]

Starts N processes of PROGRAM on this host, one for each rank, and ends with them.

Options:
  -n, --nproc N          number of ranks (required)
      --master-addr A    address on which rank 0 serves the group (default 127.0.0.1)
      --master-port P    use this port as it is; default: a free one, bound here and handed to
                         rank 0 as an open descriptor, so nobody can take it in between
      --no-listen-fd     choose a free port but do not hold it, for programs that bind
                         MASTER_PORT themselves; another process may take it first
      --grace-ms MS      time between SIGTERM and SIGKILL when ranks have to end (default 10000)
      --no-prefix        pass lines on without "[rank N]"
      --stdin none|0     who reads standard input: nobody (default) or rank 0
  -h, --help             this text

Each rank gets RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT, VLLM_DP_RANK,
VLLM_DP_RANK_LOCAL, VLLM_DP_SIZE, VLLM_DP_MASTER_IP, VLLM_DP_MASTER_PORT and NODE_COLLECTIVES_JOB_ID;
rank 0 also NODE_COLLECTIVES_LISTEN_FD.

When a rank fails, the others get SIGTERM, then SIGKILL. The exit code is that of the rank that failed
first (128 + n for signal n), 127 or 126 if PROGRAM cannot be started, 2 for wrong arguments.

Example:
  node-collectives launch --nproc 4 -- node engine.js --model m
`;

const options = {
  nproc: { type: 'string', short: 'n' },
  'master-addr': { type: 'string' },
  'master-port': { type: 'string' },
  'no-listen-fd': { type: 'boolean' },
  'grace-ms': { type: 'string' },
  'no-prefix': { type: 'boolean' },
  stdin: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const;

/**
 * Splits off and checks the launcher's own arguments; everything from the first other word (or after `--`) on
 * is the program and its arguments. 'help' where help was asked for.
 * @throws UsageError
 */
export function parseLaunchArgs(argv: readonly string[]): LaunchOptions | 'help' {
  const split = programStart(argv);
  const values = parseOwn(argv.slice(0, split.own));
  if (values.help) return 'help';
  if (values.nproc === undefined) throw new UsageError('--nproc is required', launchHelp);
  const [program, ...args] = argv.slice(split.program);
  if (program === undefined) throw new UsageError('no program to launch', launchHelp);
  if (values.stdin !== undefined && values.stdin !== 'none' && values.stdin !== '0') {
    throw new UsageError(`--stdin must be none or 0, it is '${values.stdin}'`, launchHelp);
  }
  return {
    nproc: number('--nproc', values.nproc, 1, 1024),
    command: [program, ...args],
    ...(values['master-addr'] === undefined ? {} : { masterAddr: values['master-addr'] }),
    ...(values['master-port'] === undefined
      ? {}
      : { masterPort: number('--master-port', values['master-port'], 1, 65535) }),
    ...(values['grace-ms'] === undefined
      ? {}
      : { graceMs: number('--grace-ms', values['grace-ms'], 0, 86_400_000) }),
    listenFd: !values['no-listen-fd'],
    prefix: !values['no-prefix'],
    stdin: values.stdin ?? 'none',
  };
}

/** Where the launcher's arguments end (`own`) and where the program begins. */
function programStart(argv: readonly string[]): { own: number; program: number } {
  const { tokens } = parseArgs({
    args: [...argv],
    options,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  for (const token of tokens) {
    if (token.kind === 'positional') return { own: token.index, program: token.index };
    if (token.kind === 'option-terminator') return { own: token.index, program: token.index + 1 };
  }
  return { own: argv.length, program: argv.length };
}

function parseOwn(args: string[]) {
  const names = Object.keys(options);
  const { tokens } = parseArgs({ args, options, strict: false, tokens: true });
  for (const token of tokens) {
    if (token.kind !== 'option' || names.includes(token.name)) continue;
    const hint = didYouMean(token.name, names, (name) => `--${name}`);
    throw new UsageError(`unknown option ${token.rawName}${hint}`, launchHelp);
  }
  try {
    return parseArgs({ args, options, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw new UsageError((error as Error).message.replace(/\.? To specify.*$/s, ''), launchHelp);
  }
}

function number(name: string, text: string, low: number, high: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= low && value <= high)) {
    throw new UsageError(
      `${name} must be a whole number from ${low} to ${high}, it is '${text}'`,
      launchHelp,
    );
  }
  return value;
}

/** Runs the command; resolves to the exit code. */
export async function launchCommand(argv: readonly string[]): Promise<number> {
  const parsed = parseLaunchArgs(argv);
  if (parsed === 'help') {
    process.stdout.write(launchHelp);
    return 0;
  }
  const { exitCode } = await launch(parsed);
  return exitCode;
}
