/** What doctor looks at, finds and advises. */

/** `ok`, worth knowing, or in the way. */
export type Status = 'ok' | 'warning' | 'problem';

/** One thing that was looked at. */
export interface Finding {
  /** What it is about, in a word or two; unique within a section. */
  subject: string;
  status: Status;
  /** What was found, in words. */
  text: string;
  /** What to do about it, where there is something. */
  advice?: string;
  /** The same for machines. */
  facts?: Record<string, unknown>;
}

export interface Section {
  title: string;
  findings: Finding[];
}

export function ok(subject: string, text: string, facts?: Record<string, unknown>): Finding {
  return { subject, status: 'ok', text, ...(facts === undefined ? {} : { facts }) };
}

export function warning(
  subject: string,
  text: string,
  advice: string,
  facts?: Record<string, unknown>,
): Finding {
  return { subject, status: 'warning', text, advice, ...(facts === undefined ? {} : { facts }) };
}

export function problem(
  subject: string,
  text: string,
  advice: string,
  facts?: Record<string, unknown>,
): Finding {
  return { subject, status: 'problem', text, advice, ...(facts === undefined ? {} : { facts }) };
}
