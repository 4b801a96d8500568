/**
 * Reads a request trace: one request a line, in CSV: arrival time, prompt tokens, generated tokens. Every
 * line that is not understood is reported by its number; all others are used.
 */

export interface Request {
  /** Position in the trace, by arrival; request i belongs to rank i mod N. */
  readonly index: number;
  /** Seconds after the first arrival. */
  readonly arrival: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
}

/** Something the reader should know about a line; the line was left out unless `kept`. */
export interface Problem {
  readonly line: number;
  readonly text: string;
  readonly kept: boolean;
}

export interface Trace {
  /** By arrival. */
  readonly requests: readonly Request[];
  readonly problems: readonly Problem[];
}

/** More tokens than that in one request is a slip in the file. */
const maxTokens = 10_000_000;

const columnNames: readonly (readonly string[])[] = [
  ['timestamp', 'time', 'arrival', 'arrivaltime', 'arrivedat', 'arrivalseconds', 'seconds'],
  ['contexttokens', 'prompttokens', 'prompt', 'inputtokens', 'numprefilltokens'],
  ['generatedtokens', 'outputtokens', 'completiontokens', 'generated', 'numdecodetokens'],
];

interface Columns {
  readonly count: number;
  readonly at: readonly [number, number, number];
}

/** The three columns in the order of a file without a header. */
const plainColumns: Columns = { count: 3, at: [0, 1, 2] };

class LineError extends Error {}

/** Reads a whole trace. Never throws: what is wrong is in `problems`. */
export function parseTrace(text: string): Trace {
  const problems: Problem[] = [];
  const found: { line: number; time: Time; promptTokens: number; generatedTokens: number }[] = [];
  let columns: Columns | undefined;
  for (const [i, raw] of text
    .replace(/^\uFEFF/, '')
    .split(/\r\n|\n|\r/)
    .entries()) {
    if (raw.trim() === '') continue;
    const line = i + 1;
    try {
      const cells = splitCells(raw);
      if (columns === undefined) {
        columns = headerColumns(cells);
        if (columns !== undefined) continue;
        columns = plainColumns;
      }
      if (cells.length !== columns.count) {
        throw new LineError(`has ${cells.length} columns instead of ${columns.count}`);
      }
      const [time, prompt, generated] = columns.at.map((at) => cells[at] ?? '') as [string, string, string];
      const request = {
        line,
        time: parseTime(time),
        promptTokens: parseTokens('prompt tokens', prompt, 1),
        generatedTokens: parseTokens('generated tokens', generated, 0),
      };
      const kind = found[0]?.time.kind ?? request.time.kind;
      if (request.time.kind !== kind) {
        throw new LineError(`the time is a ${request.time.kind}, that of the lines before is a ${kind}`);
      }
      found.push(request);
    } catch (error) {
      if (!(error instanceof LineError)) throw error;
      problems.push({ line, text: error.message, kept: false });
    }
  }

  for (const [i, request] of found.entries()) {
    const before = found[i - 1];
    if (before !== undefined && request.time.seconds < before.time.seconds) {
      const text = `arrives before line ${before.line}; taken in order of time`;
      problems.push({ line: request.line, text, kept: true });
    }
  }
  problems.sort((a, b) => a.line - b.line);
  found.sort((a, b) => a.time.seconds - b.time.seconds || a.line - b.line);
  const start = found[0]?.time.seconds ?? 0;
  const requests = found.map((r, index) => ({
    index,
    arrival: r.time.seconds - start,
    promptTokens: r.promptTokens,
    generatedTokens: r.generatedTokens,
  }));
  return { requests, problems };
}

/** The cells of one line. A quote that is not closed spoils its own line, not the rest of the file. */
function splitCells(line: string): string[] {
  const cells: string[] = [];
  let at = 0;
  for (;;) {
    const quoted = /\s*"((?:[^"]|"")*)"\s*(?=,|$)/y;
    quoted.lastIndex = at;
    const match = quoted.exec(line);
    if (match !== null) {
      cells.push((match[1] ?? '').replaceAll('""', '"').trim());
      at = quoted.lastIndex;
    } else {
      const end = line.indexOf(',', at);
      const cell = line.slice(at, end < 0 ? undefined : end);
      if (cell.includes('"')) throw new LineError(`a quote is out of place: ${show(cell)}`);
      cells.push(cell.trim());
      at = end < 0 ? line.length : end;
    }
    if (at >= line.length) return cells;
    at += 1;
  }
}

/** Where the three columns are, if these cells are a header. */
function headerColumns(cells: readonly string[]): Columns | undefined {
  const plain = cells.map((cell) => cell.toLowerCase().replaceAll(/[^a-z]/g, ''));
  const at = columnNames.map((names) => plain.findIndex((cell) => names.includes(cell)));
  const [time = -1, prompt = -1, generated = -1] = at;
  if (time >= 0 && prompt >= 0 && generated >= 0)
    return { count: cells.length, at: [time, prompt, generated] };
  if (at.some((a) => a >= 0) || (cells.length >= 3 && cells.every((cell) => /^[a-z_ ]+$/i.test(cell)))) {
    throw new LineError('is a header, but not one with a time, prompt tokens and generated tokens');
  }
  return undefined;
}

interface Time {
  readonly kind: 'number' | 'date';
  readonly seconds: number;
}

function parseTime(text: string): Time {
  if (/^\d+(\.\d*)?(e[+-]?\d+)?$/i.test(text)) {
    const seconds = Number(text);
    if (seconds < 1e15) return { kind: 'number', seconds };
  }
  const date = /^(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(\.\d+)?(Z|\+00:?00)?$/.exec(text);
  if (date !== null) {
    const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = date.slice(1, 7).map(Number);
    const whole = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
    // Date rolls 31 April over into May; what comes back differs then.
    if (whole.toISOString().slice(0, 19) === `${text.slice(0, 10)}T${text.slice(11, 19)}`) {
      return { kind: 'date', seconds: whole.getTime() / 1000 + Number(date[7] ?? 0) };
    }
  }
  const kind = text.startsWith('-') ? ' and not negative' : '';
  throw new LineError(`the time must be seconds or YYYY-MM-DD HH:MM:SS.fff${kind}, it is ${show(text)}`);
}

function parseTokens(name: string, text: string, low: number): number {
  if (/^\d+$/.test(text)) {
    const value = Number(text);
    if (value >= low && value <= maxTokens) return value;
  }
  throw new LineError(`${name} must be a whole number from ${low} to ${maxTokens}, it is ${show(text)}`);
}

function show(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}

/** The problems as lines for people: the first `limit` in words, the numbers of all others. */
export function describeProblems(problems: readonly Problem[], limit = 20): string[] {
  const lines = problems.slice(0, limit).map((p) => `line ${p.line}: ${p.text}${p.kept ? '' : '; left out'}`);
  const rest = problems.slice(limit).map((p) => p.line);
  if (rest.length === 0) return lines;
  const ranges: string[] = [];
  for (let i = 0; i < rest.length; ) {
    let end = i;
    while (rest[end + 1] === (rest[end] ?? 0) + 1) end += 1;
    ranges.push(end > i ? `${rest[i]}-${rest[end]}` : `${rest[i]}`);
    i = end + 1;
  }
  return [...lines, `${rest.length} more: lines ${ranges.join(', ')}`];
}
