/** The two spellings of a field's name: ours and the origin's. */

export function toSnake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Both directions for the fields of one class. */
export interface Names {
  readonly camel: readonly string[];
  readonly snakeOf: ReadonlyMap<string, string>;
  readonly camelOf: ReadonlyMap<string, string>;
}

export function namesOf(camel: readonly string[]): Names {
  return {
    camel,
    snakeOf: new Map(camel.map((name) => [name, toSnake(name)])),
    camelOf: new Map(camel.map((name) => [toSnake(name), name])),
  };
}

/** The settings that `names` knows, from their snake_case names; all others are dropped without a word. */
export function camelised(
  settings: Readonly<Record<string, unknown>>,
  names: Names,
): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [snake, value] of Object.entries(settings)) {
    const camel = names.camelOf.get(snake);
    if (camel !== undefined) out[camel] = value;
  }
  return out;
}
