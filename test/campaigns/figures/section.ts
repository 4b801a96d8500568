/** What a section of figures takes and gives. */
import type { Random } from '../random.ts';

export interface Setting {
  /** The campaign's coordination store. */
  storePort: number;
  random: Random;
  /** Multiplies the number of rounds. */
  scale: number;
}

export interface Outcome {
  table: string;
  /** What did not hold, in words. */
  broken: string[];
  /** Why it could not be run here. */
  skipped?: string;
}

/**
 * Elements of the arrays of busy ranks, one in fifty has twenty times as many. A rank that makes or checks an array in
 * JavaScript can hear of nothing meanwhile; with ten times as many that is what would be measured.
 */
export const workScale = 2_000;

export type Section = (setting: Setting) => Promise<Outcome>;

export const rounds = (setting: Setting, count: number) => Math.max(1, Math.round(count * setting.scale));
