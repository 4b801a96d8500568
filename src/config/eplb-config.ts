/** EPLBConfig: load balancing of experts, the nested part of a parallel configuration. */
import type { EPLBConfigInput, EPLBFields } from './eplb-fields.ts';
import { eplbNames, eplbSchema } from './eplb-schema.ts';
import { type ConfigIssue, ConfigValidationError } from './errors.ts';
import { camelised } from './names.ts';
import { isPlainObject } from './python.ts';
import { unknownNames } from './unknown.ts';
import { issuesOf } from './zod.ts';

export type { EPLBConfigInput, EPLBFields } from './eplb-fields.ts';

export const notAnEplbConfig: ConfigIssue = {
  loc: [],
  msg: 'Input should be a dictionary or an instance of EPLBConfig',
  type: 'dataclass_type',
};

/** Fields from settings by their camelCase names, or everything that is wrong with them. */
function parse(settings: unknown, strict: boolean): EPLBFields | ConfigIssue[] {
  if (!isPlainObject(settings)) return [notAnEplbConfig];
  const result = eplbSchema().safeParse(settings);
  const issues = result.success ? [] : issuesOf(result.error);
  if (strict) issues.push(...unknownNames(settings, eplbNames().camel));
  if (!result.success || issues.length > 0) return issues;
  const rule = brokenRule(result.data);
  return rule === undefined ? result.data : [{ loc: [], msg: `Value error, ${rule}`, type: 'value_error' }];
}

function brokenRule(fields: EPLBFields): string | undefined {
  if (fields.useAsync && fields.policy !== 'default') {
    return 'Async EPLB is only supported with the default policy.';
  }
  if (fields.logBalancedness && fields.logBalancednessInterval <= 0) {
    return 'log_balancedness_interval must be greater than 0.';
  }
  return undefined;
}

export interface EPLBConfig extends EPLBFields {}

/** Load balancing of experts. After construction nothing is checked: fields take any value. */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: the constructor sets every field of the interface
export class EPLBConfig {
  /** @throws ConfigValidationError listing all wrong fields; an unknown name is one. */
  constructor(settings: EPLBConfigInput = {}) {
    Object.assign(
      this,
      checked(parse(settings, true), (name) => name),
    );
  }

  /** From the origin's names; unknown ones are dropped. */
  static fromSnakeCase(settings: Readonly<Record<string, unknown>>): EPLBConfig {
    const given: unknown = isPlainObject(settings) ? camelised(settings, eplbNames()) : settings;
    const fields = checked(parse(given, false), (name) => eplbNames().snakeOf.get(name) ?? name);
    return build(fields);
  }

  /** All fields by the origin's names. */
  toSnakeCase(): Record<string, unknown> {
    const out: Record<string, unknown> = {};
    for (const [camel, snake] of eplbNames().snakeOf) out[snake] = this[camel as keyof EPLBFields];
    return out;
  }
}

function checked(result: EPLBFields | ConfigIssue[], spell: (name: string) => string): EPLBFields {
  if (!Array.isArray(result)) return result;
  const errors = result.map((issue) => ({ ...issue, loc: issue.loc.map((part) => spell(String(part))) }));
  throw new ConfigValidationError('EPLBConfig', errors);
}

function build(fields: EPLBFields): EPLBConfig {
  return Object.assign(Object.create(EPLBConfig.prototype) as EPLBConfig, fields);
}

let defaults: EPLBFields | undefined;

/** A new one with all defaults. @internal */
export function defaultEplbConfig(): EPLBConfig {
  defaults ??= { ...new EPLBConfig() };
  return build(defaults);
}

/** An argument of the outer configuration; one that is built already is taken as it is. @internal */
export function toEplbConfig(
  input: unknown,
  strict: boolean,
): { value: EPLBConfig } | { issues: { type: string; msg: string; path: (string | number)[] }[] } {
  if (input instanceof EPLBConfig) return { value: input };
  const result = parse(input, strict);
  if (!Array.isArray(result)) return { value: build(result) };
  return { issues: result.map(({ loc, msg, type }) => ({ msg, type, path: [...loc] })) };
}
