/** A group's story in plain words, for somebody who was woken by it. */
import { type Behind, callOf, isCollective } from './parting.ts';
import type { Cause, RankStory, Story, Wait } from './story.ts';

/** `rank 2`, `ranks 0, 1 and 3`, `ranks 0 to 6`; `no rank`. */
export function ranksText(ranks: readonly number[]): string {
  if (ranks.length === 0) return 'no rank';
  const sorted = [...ranks].sort((a, b) => a - b);
  const runs: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let end = i;
    while (end + 1 < sorted.length && sorted[end + 1] === (sorted[end] as number) + 1) end += 1;
    if (end - i >= 2) runs.push(`${sorted[i]} to ${sorted[end]}`);
    else for (let at = i; at <= end; at += 1) runs.push(String(sorted[at]));
    i = end + 1;
  }
  const last = runs.pop() as string;
  const list = runs.length === 0 ? last : `${runs.join(', ')} and ${last}`;
  return `${sorted.length === 1 ? 'rank' : 'ranks'} ${list}`;
}

/** `3.2 s`, `45 ms`, `0.12 ms`. */
export function durationText(ms: number): string {
  if (ms >= 60_000) return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1e3)} s`;
  if (ms >= 1_000) return `${(ms / 1e3).toFixed(1)} s`;
  return `${ms >= 10 ? Math.round(ms) : ms.toFixed(2)} ms`;
}

function timeText(ms: number): string {
  return new Date(ms).toISOString().replace('T', ' ').replace('Z', ' UTC');
}

function capital(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

function were(ranks: readonly number[]): string {
  return ranks.length === 1 ? 'was' : 'were';
}

/** `rank 2 (pid 4711 on host a)`. */
function who(story: Story, rank: number): string {
  const { host, pid } = story.ranks[rank] ?? {};
  return host === undefined ? `rank ${rank}` : `rank ${rank} (pid ${pid} on ${host})`;
}

export function storyText(story: Story): string {
  const { groupName, jobId, generation, instance, size } = story;
  const title = [
    `Group '${groupName}'`,
    ...(jobId === '' ? [] : [`job ${jobId}`]),
    `generation ${generation}`,
    `${size} ${size === 1 ? 'rank' : 'ranks'}`,
    ...(instance === undefined ? ['never formed'] : [`formation ${instance}`]),
  ].join(', ');
  const sections: [string, string[]][] = [
    ['What happened', happened(story)],
    ['Who waited for whom', story.waits.flatMap((wait) => waited(story, wait))],
    ['Where the calls part', parted(story)],
    ['Ranks', table(story)],
    ['Devices', devices(story)],
    ['Not seen', unseen(story)],
    ['What to do', advice(story)],
  ];
  const body = sections
    .filter(([, lines]) => lines.length > 0)
    .map(([name, lines]) => `${name}\n${lines.map((line) => `  ${line}\n`).join('')}`);
  return `${title}\n${'='.repeat(title.length)}\n\n${body.join('\n')}`;
}

function happened(story: Story): string[] {
  const [first, ...others] = story.causes;
  if (first === undefined) {
    return ['No rank reports a failure: these dumps were asked for while the group was alive.'];
  }
  const lines = [verdict(story, first)];
  const [earliest, ...later] = first.heard;
  if (earliest !== undefined) {
    const seen = first.detectedBy ?? earliest.rank;
    const own = first.heard.find(({ rank }) => rank === seen);
    const told = first.heard.filter(({ rank }) => rank !== seen);
    const when = timeText((own ?? earliest).at);
    lines.push(
      own === undefined
        ? `Rank ${seen} saw it first, and its dump is not here. Rank ${earliest.rank} heard of it at ${when}.`
        : `Rank ${seen} saw it first, at ${when}.`,
    );
    if (own !== undefined && told.length > 0) {
      const last = Math.max(...told.map(({ at }) => at)) - own.at;
      const within = durationText(Math.max(0, last));
      lines.push(`${capital(ranksText(told.map(({ rank }) => rank)))} heard of it within ${within}.`);
    } else if (later.length > 0) {
      lines.push(`So did ${ranksText(later.map(({ rank }) => rank))}.`);
    }
  }
  if (first.op !== undefined && first.op !== 'join') {
    lines.push(`That was during ${sortOf(first.op)} ${first.seq ?? '?'}, ${first.op}.`);
  }
  lines.push(`The error: ${first.message} (${first.code})`);
  for (const other of others) {
    const from = ranksText(other.heard.map(({ rank }) => rank));
    lines.push(
      `${capital(from)} ${other.heard.length === 1 ? 'reports' : 'report'} something else: ${other.message} (${other.code})`,
    );
  }
  if (story.formedAt !== undefined && earliest !== undefined) {
    lines.push(`The group had stood for ${durationText(Math.max(0, earliest.at - story.formedAt))}.`);
  }
  return lines;
}

function verdict(story: Story, cause: Cause): string {
  const { code, culprits } = cause;
  const [culprit] = culprits;
  const named = culprits.length === 1 ? who(story, culprit as number) : ranksText(culprits);
  switch (code) {
    case 'RANK_LOST':
      return `${capital(named)} failed: it ended, or its link did, without a goodbye.`;
    case 'TIMEOUT':
      if (culprits.length === 0) return 'Time ran out although every rank had called the operation.';
      return cause.op === 'join'
        ? `${capital(named)} did not come in time, so the group was not formed.`
        : `${capital(named)} did not call an operation that others waited in until their time was up.`;
    case 'ABORTED':
      return `${capital(named)} ended the group: abort() was called there, or its process ended.`;
    case 'COLLECTIVE_MISMATCH':
      return 'The ranks called different operations.';
    default:
      return culprits.length === 0
        ? `The group failed with ${code}.`
        : `${capital(named)} failed with ${code}.`;
  }
}

/** The two count for themselves, so a number alone would not say which is meant. */
const sortOf = (op: string) => (isCollective({ op }) ? 'operation' : 'message');

function waited(story: Story, wait: Wait): string[] {
  const longest = wait.waiting[0]?.ms ?? 0;
  const shortest = wait.waiting.at(-1)?.ms ?? 0;
  const ranks = wait.waiting.map(({ rank }) => rank);
  const span =
    longest - shortest < 1 || ranks.length === 1
      ? durationText(longest)
      : `${durationText(shortest)} to ${durationText(longest)}`;
  const what = `${sortOf(wait.operation.op)} ${wait.seq}, ${callOf(wait.operation)}`;
  const lines = [`${capital(ranksText(ranks))} ${were(ranks)} in ${what} for ${span}`];
  lines[0] +=
    wait.for.length === 0 ? '.' : `, and waited for ${ranksText(wait.for)}, which had not called it.`;
  if (ranks.length > 1 && longest - shortest >= 1) {
    for (const { rank, ms } of wait.waiting) lines.push(`  rank ${rank}: ${durationText(ms)}`);
  }
  const lost = story.causes[0];
  if (wait.for.length === 0 && lost?.code === 'RANK_LOST' && lost.culprits.length > 0) {
    lines.push(`What they lacked was ${ranksText(lost.culprits)}'s part.`);
  }
  return lines;
}

function parted({ parting, causes }: Story): string[] {
  if (parting === undefined) return [];
  if (parting.kind === 'different') {
    const wide = Math.max(...parting.calls.map(({ ranks }) => ranksText(ranks).length));
    return [
      `At operation ${parting.seq}, for the first time:`,
      ...parting.calls.map(({ ranks, call }) => `  ${ranksText(ranks).padEnd(wide)}  called ${call}`),
    ];
  }
  const { seq, call, behind } = parting;
  // A rank that was told of another's loss before it got round to calling is late, and did nothing wrong.
  const never = causes[0]?.code === 'TIMEOUT' ? 'never' : 'not yet';
  return behind.map(({ rank, last }: Behind) => {
    const seen =
      last === undefined
        ? 'it called nothing at all'
        : `it was last seen ${doing(last.state)} ${last.seq}, ${last.call}`;
    const had = never === 'never' ? `Rank ${rank} never called` : `Rank ${rank} had not yet called`;
    return `${had} operation ${seq}, ${call}; ${seen}.`;
  });
}

function doing(state: NonNullable<Behind['last']>['state']): string {
  if (state === 'done') return 'finishing';
  return state === 'failed' ? 'failing in' : 'in';
}

function table(story: Story): string[] {
  const rows = story.ranks
    .filter(({ dumped, host }) => dumped || host !== undefined)
    .map((rank) => [
      String(rank.rank),
      rank.host === undefined ? '?' : `${rank.host}:${rank.pid}`,
      rank.dumped ? (rank.state ?? '') : 'no dump',
      rank.lastDone === undefined ? '-' : `${rank.lastDone.seq} ${callOf(rank.lastDone)}`,
      pendingText(rank),
    ]);
  if (rows.length === 0) return [];
  const head = ['rank', 'process', 'state', 'last finished', 'then'];
  const all = [head, ...rows];
  const wide = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all.map((row) =>
    row
      .map((cell, column) => cell.padEnd(wide[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

/** The libraries that ranks used, and each rank's device. */
function devices({ ranks }: Story): string[] {
  const libraries = new Map<string, number[]>();
  for (const { rank, library } of ranks) {
    if (library === undefined) continue;
    const text = `${library.name} ${library.version}, ${library.path}`;
    libraries.set(text, [...(libraries.get(text) ?? []), rank]);
  }
  return [
    ...[...libraries].map(([text, of]) => `${capital(ranksText(of))}: ${text}`),
    ...ranks.flatMap(({ rank, device }) =>
      device === undefined
        ? []
        : [`Rank ${rank}: ${device.platform} device ${device.index}, ${device.name}, ${device.uuid}`],
    ),
  ];
}

function pendingText({ pending, dumped }: RankStory): string {
  if (!dumped) return '?';
  const [first, ...more] = pending;
  if (first === undefined) return 'idle';
  const rest = more.length === 0 ? '' : `, and ${more.length} more after it`;
  return `${first.seq} ${callOf(first)} ${first.state}${rest}`;
}

function unseen({ undumped, size, clocks }: Story): string[] {
  const lines: string[] = [];
  if (undumped.length > 0) {
    lines.push(
      `No dump of ${ranksText(undumped)} (${size - undumped.length} of ${size} are here): killed, stopped, or its ` +
        'dumps are elsewhere (another host, another NODE_COLLECTIVES_DUMP_DIR).',
    );
  }
  for (const [host, offset] of Object.entries(clocks)) {
    if (Math.abs(offset) < 5) continue;
    const way = offset > 0 ? 'ahead of' : 'behind';
    lines.push(
      `The clock of ${host} is ${durationText(Math.abs(offset))} ${way} the others'; times are corrected.`,
    );
  }
  return lines;
}

function advice(story: Story): string[] {
  const [cause] = story.causes;
  if (cause === undefined) return [];
  const { code, culprits } = cause;
  const named = culprits.slice(0, 3).map((rank) => who(story, rank));
  switch (code) {
    case 'RANK_LOST':
      return named.map(
        (each) => `Look at the output of ${each}, and at that host's kernel log (out of memory, GPU errors).`,
      );
    case 'TIMEOUT':
      return named.map(
        (each) =>
          `See what ${each} was doing instead: its log, its stack; it may be stopped or in a long computation.`,
      );
    case 'COLLECTIVE_MISMATCH':
      return [
        'Find the branch in the program that not all ranks take: every rank must make the same calls in the same order.',
      ];
    case 'ABORTED':
      return named.map((each) => `Find out why ${each} gave up; the reason is in the error's text.`);
    default:
      return [];
  }
}
