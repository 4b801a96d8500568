/** `node-collectives config`: what a configuration resolves to on this machine, and why. */
import { parallelJsonSchema } from '../config/describe.ts';
import { ConfigValidationError, MissingVariableError, ZeroDivisionError } from '../config/errors.ts';
import { currentHost } from '../config/host.ts';
import { toSnake } from '../config/names.ts';
import { gather } from '../config/sources.ts';
import { CollectivesError, InvalidArgumentError } from '../errors.ts';
import { ParallelConfig } from '../group/parallel-config.ts';
import { UsageError } from './usage.ts';

const help = `Usage: node-collectives config [options] [parallel options]

Prints the parallel configuration that the options, a configuration file and the environment resolve to on
this machine, where each value comes from, and the hash that has to be the same on all ranks.

Options:
      --config FILE    settings from a JSON or YAML file; the environment and options come before it
      --json           for machines
      --schema         a JSON Schema of the settings instead
  -h, --help           this text

Parallel options are vLLM's: --tensor-parallel-size N (-tp), --pipeline-parallel-size N (-pp),
--data-parallel-size N (-dp), --data-parallel-address A (-dpa), --enable-expert-parallel (-ep) and
--no-enable-expert-parallel, --eplb-config JSON, --eplb-config.window_size N; every field has one. Underscores
are as good as dashes.

The exit code is 1 where the configuration is refused, 2 for wrong arguments.

Example:
  node-collectives config -dp 2 -tp 4 --enable-expert-parallel
`;

const derived = [
  'worldSizeAcrossDp',
  'useUbatching',
  'numUbatches',
  'nnodesWithinDp',
  'nodeRankWithinDp',
  'localWorldSize',
  'useSequenceParallelMoe',
  'useRay',
] as const;

/** Runs the command; resolves to the exit code. */
export async function configCommand(argv: readonly string[]): Promise<number> {
  const own = new Set(['--json', '--schema', '-h', '--help']);
  const flags = new Set(argv.filter((word) => own.has(word)));
  if (flags.has('-h') || flags.has('--help')) return print(help);
  if (flags.has('--schema')) return print(`${JSON.stringify(parallelJsonSchema(), undefined, 2)}\n`);
  const report = describe(argv.filter((word) => !own.has(word)));
  if (flags.has('--json')) {
    print(`${JSON.stringify(report, undefined, 2)}\n`);
    return report.ok ? 0 : 1;
  }
  for (const text of report.warnings) process.stderr.write(`warning: ${text}\n`);
  if (!report.ok) {
    process.stderr.write(`node-collectives: ${report.message} (${report.code})\n`);
    return 1;
  }
  return print(asText(report));
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

/** Everything there is to know, by the origin's names. */
function describe(argv: readonly string[]) {
  const warnings: string[] = [];
  const settings = read(argv);
  const sources = new Map(settings.sources);
  try {
    const config = new ParallelConfig(settings.settings, {
      onWarning: (text) => warnings.push(text),
      onSource: (field, source) => sources.set(field, source),
    });
    const fields = config.toSnakeCase();
    const nested = config.eplbConfig.toSnakeCase();
    const names = Object.keys(fields).flatMap((name) =>
      name === 'eplb_config' ? Object.keys(nested).map((inner) => `${name}.${inner}`) : [name],
    );
    const told = new Map([...sources].map(([field, source]) => [toSnake(field), source]));
    const from = (name: string) => told.get(name) ?? 'default';
    const { platform, deviceCount, distBackend } = currentHost();
    const result = {
      ok: true as const,
      platform: { type: platform, deviceCount, distBackend },
      fields,
      sources: Object.fromEntries(names.map((name) => [name, from(name)])),
      properties: Object.fromEntries(derived.map((name) => [toSnake(name), property(config, name)])),
      hash: config.computeHash(),
      hashFactors: config.hashFactors(),
      hashPreimage: config.hashPreimage(),
      warnings,
    };
    config.releaseHeldPorts();
    return result;
  } catch (error) {
    if (!(error instanceof CollectivesError)) throw error;
    const errors = error instanceof ConfigValidationError ? error.errors : [];
    // Its own text is Python's, the name alone.
    const message =
      error instanceof MissingVariableError
        ? `the environment variable ${error.variable} is not set`
        : error.message;
    return { ok: false as const, code: error.code, message, errors, warnings };
  }
}

function read(argv: readonly string[]) {
  try {
    return gather(argv, {}, false);
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw new UsageError(error.message, help);
    throw error;
  }
}

function property(config: ParallelConfig, name: (typeof derived)[number]): unknown {
  try {
    return config[name];
  } catch (error) {
    if (error instanceof ZeroDivisionError) return { error: 'ZeroDivisionError' };
    throw error;
  }
}

function asText(report: Extract<ReturnType<typeof describe>, { ok: true }>): string {
  const values = { ...report.fields } as Record<string, unknown>;
  for (const [name, value] of Object.entries(values['eplb_config'] as object))
    values[`eplb_config.${name}`] = value;
  const rows = Object.entries(report.sources).map(([name, source]) => [
    name,
    JSON.stringify(values[name]),
    source,
  ]);
  for (const [name, value] of Object.entries(report.properties))
    rows.push([name, JSON.stringify(value), 'derived']);
  const wide = (column: number) => Math.max(...rows.map((row) => row[column]?.length ?? 0));
  const [first, second] = [wide(0), Math.min(wide(1), 32)];
  const lines = rows.map(([name = '', value = '', source = '']) => {
    return `${name.padEnd(first)}  ${value.padEnd(second)}  ${source}`.trimEnd();
  });
  const { type, deviceCount, distBackend } = report.platform;
  const devices = `${deviceCount} ${deviceCount === 1 ? 'device' : 'devices'}`;
  return `${lines.join('\n')}\n\nplatform ${type}, ${devices}, ${distBackend}\nhash ${report.hash}\n`;
}
