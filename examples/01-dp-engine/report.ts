/**
 * The closing table, and the check that all engines ended alike. Pure text; the numbers come by allGather.
 */

/** What each rank tells the others at the end, in the order in which it is sent. */
export interface RankReport {
  readonly requests: number;
  readonly refused: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  readonly waves: number;
  readonly steps: number;
  readonly dummySteps: number;
  readonly votes: number;
  readonly votingMs: number;
  readonly fastestVoteMs: number;
  readonly offeredBytes: number;
  readonly agreedBytes: number;
  readonly elapsedMs: number;
}

const fields = [
  'requests',
  'refused',
  'promptTokens',
  'generatedTokens',
  'waves',
  'steps',
  'dummySteps',
  'votes',
  'votingMs',
  'fastestVoteMs',
  'offeredBytes',
  'agreedBytes',
  'elapsedMs',
] as const satisfies readonly (keyof RankReport)[];

export function encodeReport(report: RankReport): Float64Array {
  return Float64Array.from(fields, (name) => report[name]);
}

/** The reports of all ranks, from the gathered array. */
export function decodeReports(all: Float64Array): RankReport[] {
  const reports: RankReport[] = [];
  for (let at = 0; at + fields.length <= all.length; at += fields.length) {
    reports.push(
      Object.fromEntries(fields.map((name, i) => [name, all[at + i] ?? 0])) as unknown as RankReport,
    );
  }
  return reports;
}

/** Where ranks differ although they must not; empty if all is well. */
export function disagreements(reports: readonly RankReport[]): string[] {
  const wrong: string[] = [];
  for (const name of ['steps', 'waves', 'votes', 'agreedBytes'] as const) {
    const values = reports.map((report) => report[name]);
    if (new Set(values).size > 1) {
      wrong.push(`${name} differ: ${values.map((v, rank) => `rank ${rank} ${v}`).join(', ')}`);
    }
  }
  return wrong;
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

/** The table, one row a rank and one for all. */
export function reportTable(reports: readonly RankReport[]): string {
  const sum = (name: keyof RankReport) => reports.reduce((total, report) => total + report[name], 0);
  const header = [
    'rank',
    'requests',
    'prompt tok',
    'generated tok',
    'steps',
    'dummy',
    'votes',
    'voting ms',
    'fastest µs',
    'offered',
    'agreed KV',
  ];
  const rows = reports.map((r, rank) => [
    String(rank),
    String(r.requests),
    String(r.promptTokens),
    String(r.generatedTokens),
    String(r.steps),
    String(r.dummySteps),
    String(r.votes),
    r.votingMs.toFixed(0),
    (r.fastestVoteMs * 1000).toFixed(0),
    mebibytes(r.offeredBytes),
    mebibytes(r.agreedBytes),
  ]);
  const all = [
    'all',
    ...(['requests', 'promptTokens', 'generatedTokens'] as const).map((f) => String(sum(f))),
  ];
  rows.push([...all, '', String(sum('dummySteps')), '', sum('votingMs').toFixed(0), '', '', '']);
  const widths = header.map((title, c) => Math.max(title.length, ...rows.map((row) => row[c]?.length ?? 0)));
  const line = (row: readonly string[]) => row.map((cell, c) => cell.padStart(widths[c] ?? 0)).join('  ');
  return [line(header), widths.map((w) => '-'.repeat(w)).join('  '), ...rows.map(line)].join('\n');
}
