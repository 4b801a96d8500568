/** A group's numbers in Prometheus's text format, version 0.0.4. */
import { refuse } from '../arguments.ts';
import type { GroupStats } from './stats.ts';

/** Upper bounds of the latency histogram, in seconds: votes take some ten microseconds, a hang takes minutes. */
const bounds = [
  1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5,
  10, 30, 60, 300,
];

type Labels = Record<string, string | number>;
type Sample = [suffix: string, labels: Labels, value: number];

function escaped(value: string | number): string {
  return String(value).replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');
}

const op = 'formatPrometheus';
const isObject = (value: unknown) => typeof value === 'object' && value !== null;

function checkStats(stats: unknown): void {
  const { groupName, kinds, failures, links } = (isObject(stats) ? stats : {}) as Partial<GroupStats>;
  if (typeof groupName === 'string' && isObject(kinds) && isObject(failures) && Array.isArray(links)) return;
  throw refuse(op, 'stats', 'what stats() of a group has given, or an array of that', stats);
}

/** One label that Prometheus cannot read costs it the whole page. */
function checkLabels(labels: unknown): void {
  if (!isObject(labels)) throw refuse(op, 'labels', 'an object of names and values', labels);
  for (const [name, value] of Object.entries(labels as object)) {
    if (!/^[a-zA-Z_]\w*$/.test(name)) {
      throw refuse(op, 'a name in labels', "letters, digits and '_', with no digit first", name);
    }
    if (typeof value !== 'string' && typeof value !== 'number') {
      throw refuse(op, `labels.${name}`, 'a text or a number', value);
    }
  }
}

/**
 * The statistics of one or more groups as a page that Prometheus reads. Every sample has the labels `group`, `rank` and
 * those of `labels`.
 */
export function formatPrometheus(stats: GroupStats | readonly GroupStats[], labels: Labels = {}): string {
  const groups = Array.isArray(stats) ? (stats as readonly GroupStats[]) : [stats as GroupStats];
  groups.forEach(checkStats);
  checkLabels(labels);
  const lines: string[] = [];
  const metric = (name: string, type: string, help: string, samples: (of: GroupStats) => Sample[]) => {
    lines.push(`# HELP node_collectives_${name} ${help}`, `# TYPE node_collectives_${name} ${type}`);
    for (const each of groups) {
      for (const [suffix, more, value] of samples(each)) {
        const all = Object.entries({ group: each.groupName, rank: each.rank, ...labels, ...more });
        const text = all.map(([key, label]) => `${key}="${escaped(label)}"`).join(',');
        lines.push(`node_collectives_${name}${suffix}{${text}} ${value}`);
      }
    }
  };
  const kinds = (value: (kind: GroupStats['kinds'][string]) => number) => (of: GroupStats) =>
    Object.entries(of.kinds).map(([op, kind]): Sample => ['', { op }, value(kind)]);
  metric(
    'bytes_total',
    'counter',
    'Bytes this rank contributed to operations.',
    kinds((kind) => kind.bytes),
  );
  metric('failures_total', 'counter', 'Operations that failed, by error code.', (of) =>
    Object.entries(of.failures).map(([code, count]): Sample => ['', { code }, count]),
  );
  metric(
    'waited_seconds_total',
    'counter',
    'Time operations on the CPU spent in waiting for other ranks.',
    kinds((kind) => kind.waitedMs / 1e3),
  );
  metric('operation_seconds', 'histogram', 'Time from a call to its end.', (of) =>
    Object.entries(of.kinds).flatMap(([op, kind]): Sample[] => {
      const below = (bound: number) =>
        kind.latency.buckets.reduce((sum, [top, count]) => (top <= bound * 1e3 ? sum + count : sum), 0);
      return [
        ...bounds.map((bound): Sample => ['_bucket', { op, le: bound }, below(bound)]),
        ['_bucket', { op, le: '+Inf' }, kind.done],
        ['_sum', { op }, kind.totalMs / 1e3],
        ['_count', { op }, kind.done],
      ];
    }),
  );
  metric('pending_operations', 'gauge', 'Operations called that have not ended.', (of) => [
    ['', { state: 'queued' }, of.queued],
    ['', { state: 'running' }, of.running],
  ]);
  metric('early_frames', 'gauge', 'Messages kept aside until they are asked for.', (of) => [
    ['', {}, of.earlyFrames],
  ]);
  metric('link_frames_total', 'counter', 'Frames that have passed over a link.', (of) =>
    of.links.flatMap((link): Sample[] => [
      ['', { peer: link.peer, direction: 'in' }, link.framesIn],
      ['', { peer: link.peer, direction: 'out' }, link.framesOut],
    ]),
  );
  metric('link_bytes_total', 'counter', 'Bytes that have passed over a link.', (of) =>
    of.links.flatMap((link): Sample[] => [
      ['', { peer: link.peer, direction: 'in' }, link.bytesIn],
      ['', { peer: link.peer, direction: 'out' }, link.bytesOut],
    ]),
  );
  return `${lines.join('\n')}\n`;
}
