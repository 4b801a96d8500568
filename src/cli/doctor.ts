/** `node-collectives doctor`: what a group would find on this machine, and what to do about it. */
import { parseArgs } from 'node:util';
import { examine } from '../doctor/doctor.ts';
import type { Finding, Section } from '../doctor/finding.ts';
import { didYouMean, UsageError } from './usage.ts';

const help = `Usage: node-collectives doctor [options]

Looks at what process groups need here: Node and the addon, Gloo, NCCL and RCCL, devices, interfaces, ports
and limits, and whether a group of two ranks forms. Says what to do about each problem.

Options:
      --master-addr A   rank 0's address; the route to it decides which interface ranks use
      --no-device-group form no group on the devices: it makes a context on each, for some seconds
      --json            for machines
  -h, --help            this text

The exit code is 0, or 1 where something stands in the way of CPU groups, 2 for wrong arguments.
`;

const options = {
  'master-addr': { type: 'string' },
  'no-device-group': { type: 'boolean' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

/** Runs the command; resolves to the exit code. */
export async function doctorCommand(argv: readonly string[]): Promise<number> {
  const values = parse(argv);
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const masterAddr = values['master-addr'];
  const sections = await examine({
    ...(masterAddr === undefined ? {} : { masterAddr }),
    useDevices: values['no-device-group'] !== true,
  });
  const problems = sections.flatMap(({ findings }) => findings).filter(({ status }) => status === 'problem');
  const report = { ok: problems.length === 0, sections };
  process.stdout.write(values.json ? `${JSON.stringify(report, undefined, 2)}\n` : asText(sections));
  return report.ok ? 0 : 1;
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options }).values;
  } catch (error) {
    const word = /'(--?[^\s'=]+)/.exec((error as Error).message)?.[1] ?? '';
    const hint = didYouMean(word.replace(/^-+/, ''), Object.keys(options), (meant) => `--${meant}`);
    throw new UsageError(`${(error as Error).message.split('. ')[0]}${hint}`, help);
  }
}

const marks = { ok: ' ', warning: '!', problem: 'x' } as const;

/** One line a finding; its advice below it. */
export function asText(sections: readonly Section[]): string {
  const width = Math.max(
    ...sections.flatMap(({ findings }) => findings.map(({ subject }) => subject.length)),
  );
  const lines = sections.flatMap(({ title, findings }) => [
    '',
    title,
    ...findings.flatMap((each) => show(each, width)),
  ]);
  const count = (status: Finding['status']) =>
    sections.flatMap(({ findings }) => findings).filter((finding) => finding.status === status).length;
  const plural = (n: number, word: string) => `${n} ${word}${n === 1 ? '' : 's'}`;
  lines.push('', `${plural(count('problem'), 'problem')}, ${plural(count('warning'), 'warning')}`);
  return `${lines.slice(1).join('\n')}\n`;
}

function show({ subject, status, text, advice }: Finding, width: number): string[] {
  const [first = '', ...rest] = text.split('\n');
  const indent = ' '.repeat(width + 5);
  return [
    ` ${marks[status]} ${subject.padEnd(width)}  ${first}`,
    ...rest.map((line) => `${indent}${line}`),
    ...(advice === undefined ? [] : [`${indent}-> ${advice}`]),
  ];
}
