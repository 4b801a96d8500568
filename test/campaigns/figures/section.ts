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

export type Section = (setting: Setting) => Promise<Outcome>;

export const rounds = (setting: Setting, count: number) => Math.max(1, Math.round(count * setting.scale));
