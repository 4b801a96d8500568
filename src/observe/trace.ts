/**
 * Dumps as a trace in Trace Event Format, which Perfetto (ui.perfetto.dev) and chrome://tracing open: a process for
 * each rank, a track for what runs, one for what waits for its turn, and arrows from who saw the failure first.
 */
import { type ClockOffsets, clockOffsets } from './clocks.ts';
import type { Dump } from './dump.ts';
import { callOf, isCollective } from './parting.ts';
import type { OperationRecord } from './stats.ts';
import { formationsOf, storiesOf } from './story.ts';

export interface TraceEvent {
  name: string;
  /** M: names; X: a span with `dur`; b and e: begin and end of a span with an `id`; i: an instant; s and f: an arrow. */
  ph: 'M' | 'X' | 'b' | 'e' | 'i' | 's' | 'f';
  pid: number;
  tid: number;
  /** Microseconds from the trace's beginning. */
  ts: number;
  dur?: number;
  cat?: string;
  id?: string;
  bp?: 'e';
  s?: 'g' | 'p' | 't';
  args?: Record<string, unknown>;
}
export interface Trace {
  traceEvents: TraceEvent[];
  displayTimeUnit: 'ms';
  otherData: Record<string, string>;
}

const tracks = { queued: 1, failures: 2, running: 3 } as const;

/** How long the mark of a failure is shown: arrows begin and end on spans only. */
const markUs = 50;

export function traceOf(dumps: readonly Dump[]): Trace {
  const formations = formationsOf(dumps);
  const origin = Math.min(
    ...dumps.flatMap((dump) => [dump.writtenAt, ...dump.operations.map(({ calledAt }) => calledAt)]),
  );
  const events: TraceEvent[] = [];
  let pid = 0;
  for (const [index, formation] of formations.entries()) {
    const offsets = clockOffsets(formation);
    const pids = new Map<number, number>();
    for (const dump of formation) {
      pid += 1;
      pids.set(dump.group.rank, pid);
      rankEvents(dump, pid, origin, offsets, events);
    }
    arrows(formation, index, pids, origin, events);
  }
  return {
    traceEvents: events.sort((a, b) => a.ts - b.ts),
    displayTimeUnit: 'ms',
    otherData: { origin: new Date(Number.isFinite(origin) ? origin : 0).toISOString() },
  };
}

function rankEvents(
  dump: Dump,
  pid: number,
  origin: number,
  offsets: ClockOffsets,
  events: TraceEvent[],
): void {
  const { group, process, operations, stats, writtenAt } = dump;
  const offset = offsets.get(process.host) ?? 0;
  const at = (ms: number) => Math.max(0, (ms - offset - origin) * 1e3);
  const named = (name: string, tid: number, args: Record<string, unknown>) =>
    events.push({ name, ph: 'M', pid, tid, ts: 0, args });
  const title = `rank ${group.rank} of ${group.groupName}, generation ${group.generation}`;
  named('process_name', 0, { name: `${title} (pid ${process.pid} on ${process.host})` });
  named('process_sort_index', 0, { sort_index: pid });
  named('thread_name', tracks.queued, { name: 'waits for its turn' });
  named('thread_name', tracks.failures, { name: 'failures' });
  const lanes: number[] = [];
  const until = stats.failedAt ?? writtenAt;
  for (const operation of [...operations].sort((a, b) => a.calledAt - b.calledAt)) {
    const name = `${operation.seq} ${callOf(operation)}`;
    const args = argsOf(operation);
    const turn = at(operation.begunAt ?? operation.endedAt ?? until);
    const which = isCollective(operation) ? '' : `.${operation.op}.${operation.root}`;
    const id = `${pid}.${operation.seq}${which}`;
    const shared = { name, cat: 'queued', id, pid, tid: tracks.queued };
    events.push({ ...shared, ph: 'b', ts: at(operation.calledAt), args });
    events.push({ ...shared, ph: 'e', ts: Math.max(turn, at(operation.calledAt)) });
    if (operation.begunAt === undefined) continue;
    const end = Math.max(at(operation.endedAt ?? until), turn);
    // Spans of one track must not overlap, and several operations may run at a time on devices.
    const free = lanes.findIndex((busy) => busy <= turn);
    const lane = free < 0 ? lanes.length : free;
    lanes[lane] = end;
    events.push({
      name,
      ph: 'X',
      cat: operation.state,
      pid,
      tid: tracks.running + lane,
      ts: turn,
      dur: end - turn,
      args,
    });
  }
  for (let lane = 0; lane < Math.max(1, lanes.length); lane += 1) {
    named('thread_name', tracks.running + lane, { name: lane === 0 ? 'runs' : `runs, ${lane + 1}` });
  }
}

function argsOf(operation: OperationRecord): Record<string, unknown> {
  const { state, bytes, path, waitedMs, error, missing } = operation;
  return { state, bytes, path, waitedMs, error, missing };
}

function arrows(
  formation: Dump[],
  index: number,
  pids: ReadonlyMap<number, number>,
  origin: number,
  events: TraceEvent[],
): void {
  const [story] = storiesOf(formation);
  for (const [number, cause] of (story?.causes ?? []).entries()) {
    const from = cause.heard.find(({ rank }) => rank === cause.detectedBy);
    for (const { rank, at, firstHand } of cause.heard) {
      const pid = pids.get(rank) as number;
      const ts = Math.max(0, (at - origin) * 1e3);
      const args = { code: cause.code, message: cause.message, culprits: cause.culprits, firstHand };
      const mark = { name: cause.code, cat: 'failure', pid, tid: tracks.failures };
      events.push({ ...mark, ph: 'X', ts, dur: markUs, args });
      events.push({ ...mark, ph: 'i', ts, s: 'p', args });
      if (from === undefined || from.rank === rank) continue;
      const id = `${index}.${number}.${rank}`;
      const begin = Math.max(0, (from.at - origin) * 1e3);
      events.push({ ...mark, ph: 's', id, pid: pids.get(from.rank) as number, ts: begin });
      events.push({ ...mark, ph: 'f', bp: 'e', id, ts: Math.max(ts, begin) });
    }
  }
}
