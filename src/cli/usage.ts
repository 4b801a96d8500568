/** What every command of the command line shares: its error, and suggestions for mistyped names. */

import { nearest } from '../nearest.ts';

export { editDistance, nearest } from '../nearest.ts';

/** A mistake in the arguments: printed without a stack, exit code 2. */
export class UsageError extends Error {
  readonly help: string;
  constructor(message: string, help: string) {
    super(message);
    this.name = 'UsageError';
    this.help = help;
  }
}

/** `. Did you mean X?`, or nothing. */
export function didYouMean(word: string, known: readonly string[], show: (word: string) => string): string {
  const meant = nearest(word, known);
  return meant === undefined ? '' : `. Did you mean ${show(meant)}?`;
}
