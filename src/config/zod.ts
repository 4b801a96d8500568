/**
 * zod, loaded when the first configuration is made: importing the package must stay cheap for those who only
 * join groups. And the one place where its issues become ours.
 */
import { createRequire } from 'node:module';
import type * as Zod from 'zod';
import type { Converted } from './convert.ts';
import type { ConfigIssue } from './errors.ts';

export type Z = typeof Zod;
export type { Zod };

let loaded: Z | undefined;

export function zod(): Z {
  loaded ??= createRequire(import.meta.url)('zod') as Z;
  return loaded;
}

/** Runs `make` once, at the first call. */
export function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/** Whether a field takes part in the hash. */
export type Hashing = 'hashed' | 'free';

/** Words for the fields of a schema: each takes the default, whether it is hashed, and the meaning. */
export function vocabulary(z: Z) {
  const hashing = z.registry<{ hashed: boolean }>();

  /** A field whose values are converted first; `of` says what comes out. */
  function field<T>(
    convert: (input: unknown) => Converted<T>,
    of: Zod.ZodType<T>,
    otherwise: T | (() => T),
    hash: Hashing,
    doc: string,
  ): Zod.ZodDefault<Zod.ZodType<T, T>> {
    const converted = z.transform((input: unknown, context) => {
      const result = convert(input);
      if ('value' in result) return result.value;
      for (const { msg, type, path } of result.issues) {
        context.issues.push({
          code: 'custom',
          input,
          message: msg,
          path: [...(path ?? [])],
          params: { type },
        });
      }
      return z.NEVER;
    });
    const inner = z.pipe(converted as unknown as Zod.ZodType<T, T>, of as Zod.ZodType<T, T>) as unknown;
    return noted((inner as Zod.ZodType<T, T>).default(otherwise as never), hash, doc);
  }

  /** A field that zod checks as it is. */
  function plain<T>(
    of: Zod.ZodType<T>,
    otherwise: T,
    hash: Hashing,
    doc: string,
  ): Zod.ZodDefault<Zod.ZodType<T, T>> {
    return noted((of as Zod.ZodType<T, T>).default(otherwise as never), hash, doc);
  }

  function noted<S extends Zod.ZodType>(schema: S, hash: Hashing, doc: string): S {
    const described = schema.describe(doc);
    hashing.add(described, { hashed: hash === 'hashed' });
    return described;
  }

  return { field, plain, noted, isHashed: (schema: Zod.ZodType) => hashing.get(schema)?.hashed === true };
}

/** `null`, or as `convert` says. */
export function orNull<T>(
  convert: (input: unknown) => Converted<T>,
): (input: unknown) => Converted<T | null> {
  return (input) => (input === null ? { value: null } : convert(input));
}

/** What zod found wrong, in the words of the origin. */
export function issuesOf(error: Zod.core.$ZodError): ConfigIssue[] {
  return error.issues.map((issue) => {
    const loc = issue.path as (string | number)[];
    switch (issue.code) {
      case 'custom':
        return { loc, msg: issue.message, type: String(issue.params?.['type']) };
      case 'too_small': {
        const least = String(issue.minimum);
        return issue.inclusive
          ? { loc, msg: `Input should be greater than or equal to ${least}`, type: 'greater_than_equal' }
          : { loc, msg: `Input should be greater than ${least}`, type: 'greater_than' };
      }
      case 'invalid_type':
        if (issue.expected === 'string')
          return { loc, msg: 'Input should be a valid string', type: 'string_type' };
    }
    // No schema here gives any other; a test walks all fields with values of every kind.
    return { loc, msg: issue.message, type: issue.code ?? 'custom' };
  });
}
