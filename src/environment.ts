/** An environment that a caller gives in place of `process.env`. */
import { refuse } from './arguments.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Looks at none of its variables: some callers are told which are read, and when. */
export function checkIsEnvironment(op: string, env: unknown): asserts env is object {
  if (typeof env === 'object' && env !== null) return;
  throw refuse(op, 'env', 'an object of variables, as process.env', env);
}

/** A number where a text is due would end in a TypeError far from here. */
export function checkEnvironment(op: string, env: unknown): void {
  // Its values are texts, and reading them all costs time.
  if (env === process.env) return;
  checkIsEnvironment(op, env);
  for (const name of Object.keys(env)) variable(op, env as Environment, name);
}

/** One variable of it, looked at now. */
export function variable(op: string, env: Environment, name: string): string | undefined {
  const value: unknown = env[name];
  if (value === undefined || typeof value === 'string') return value;
  throw refuse(op, `env.${name}`, 'a text', value);
}
