/** Names that no field has. */

import { nearest } from '../nearest.ts';
import type { ConfigIssue } from './errors.ts';
import { toSnake } from './names.ts';

/** An entry for each unknown name, with the one that was probably meant. */
export function unknownNames(
  settings: Readonly<Record<string, unknown>>,
  known: readonly string[],
  computed: readonly string[] = [],
): ConfigIssue[] {
  return Object.keys(settings)
    .filter((name) => !known.includes(name))
    .map((name) => ({
      loc: [name],
      msg: unknownText(name, known, computed),
      type: 'unexpected_keyword_argument',
    }));
}

function unknownText(name: string, known: readonly string[], computed: readonly string[]): string {
  if (computed.includes(name)) return 'Computed, not an argument';
  // A snake_case name is meant often enough that distance should not decide.
  const meant = known.find((candidate) => toSnake(candidate) === name) ?? nearest(name, known);
  return meant === undefined ? 'Unknown name' : `Unknown name. Did you mean ${meant}?`;
}
