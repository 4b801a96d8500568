/** What a configuration is refused with. */
import { CollectivesError } from '../errors.ts';

/** One refusal. */
export interface ConfigIssue {
  /** Which field, and where in it; empty for rules over several fields. */
  readonly loc: readonly (string | number)[];
  readonly msg: string;
  /** A stable name of the kind of refusal, as pydantic has it, e.g. `int_parsing`. */
  readonly type: string;
}

/**
 * A configuration was refused. `errors` has every field that is wrong, in field order, or the one rule over
 * several fields that failed first. `loc` speaks the names that the caller used: camelCase for the
 * constructor, snake_case for `fromSnakeCase()`. The texts are vLLM's.
 */
export class ConfigValidationError extends CollectivesError {
  static readonly code = 'INVALID_CONFIG';
  readonly errors: readonly ConfigIssue[];

  constructor(title: string, errors: readonly ConfigIssue[]) {
    super(ConfigValidationError.code, describe(title, errors));
    this.errors = errors;
  }
}

function describe(title: string, errors: readonly ConfigIssue[]): string {
  const count = errors.length === 1 ? '1 error' : `${errors.length} errors`;
  const lines = errors.map(({ loc, msg, type }) => {
    const where = loc.length === 0 ? '' : `${loc.join('.')}: `;
    return `  ${where}${msg.replaceAll('\n', '\n    ')} [${type}]`;
  });
  return `${count} in ${title}\n${lines.join('\n')}`;
}

/**
 * An environment variable that has to be set is not: Python's `KeyError`, which vLLM lets through as it is.
 */
export class MissingVariableError extends CollectivesError {
  static readonly code = 'MISSING_VARIABLE';
  /** Name of the variable. */
  readonly variable: string;
  constructor(variable: string) {
    super(MissingVariableError.code, `'${variable}'`);
    this.variable = variable;
  }
}

/** A size of 0 would divide: Python's `ZeroDivisionError`, which vLLM lets through as it is. */
export class ZeroDivisionError extends CollectivesError {
  static readonly code = 'ZERO_DIVISION';
  constructor() {
    super(ZeroDivisionError.code, 'integer division or modulo by zero');
  }
}

/** The refusal of a rule over several fields. @internal */
export function ruleError(title: string, text: string): ConfigValidationError {
  return new ConfigValidationError(title, [{ loc: [], msg: `Value error, ${text}`, type: 'value_error' }]);
}
