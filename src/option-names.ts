/** Names of options. An unknown one is refused: a misspelt option would otherwise mean its default, without a word. */

import { InvalidArgumentError } from './errors.ts';
import { nearest } from './nearest.ts';

export interface OptionNames {
  /** All that are taken. */
  readonly known: ReadonlySet<string>;
  /** Those that a message offers. */
  readonly offered: readonly string[];
}

/** The names of the options that `T` has, all of them; `false` for one that is not offered to callers. */
export function optionNames<T extends object>(names: Readonly<Record<keyof T, boolean>>): OptionNames {
  const all = Object.entries<boolean>(names);
  return {
    known: new Set(all.map(([name]) => name)),
    offered: all.filter(([, offered]) => offered).map(([name]) => name),
  };
}

/**
 * @param what the argument they are in.
 * @throws InvalidArgumentError that names the unknown option and the known ones.
 */
export function checkNames(
  op: string,
  options: object,
  { known, offered }: OptionNames,
  what = 'options',
): void {
  // Every vote with options comes through here: for-in makes no array of the names.
  for (const name in options) {
    if (!known.has(name)) refuseName(op, options, name, offered, what);
  }
}

function refuseName(
  op: string,
  options: object,
  name: string,
  offered: readonly string[],
  what: string,
): void {
  // An AbortSignal has inherited names only. Others that are inherited are not the caller's doing.
  if (options instanceof AbortSignal) {
    throw new InvalidArgumentError(
      `${op}: ${what} must be an object of options, but is an AbortSignal; give it as \`signal\` in one`,
      { op },
    );
  }
  if (!Object.hasOwn(options, name)) return;
  const meant = nearest(name, offered);
  const hint = meant === undefined ? 'there are' : `did you mean ${meant}? There are`;
  throw new InvalidArgumentError(`${op}: there is no option '${name}'; ${hint} ${offered.join(', ')}`, {
    op,
  });
}
