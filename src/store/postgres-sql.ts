/** Texts that were rewritten, by what they were; sizes of pages are part of a text, so the number of them has a limit. */
const known = new Map<string, string>()
const MOST_KNOWN = 512

/** What PostgreSQL says differently, in the order of application. `P` of these: a parameter that holds a list as JSON. */
const DIFFERENCES: readonly (readonly [RegExp, string])[] = [
  // As an array its few members are looked up in an index; as a table it is taken for a long one, and whole tables are read.
  [
    /IN \(SELECT (value|CAST\(value AS BIGINT\)) FROM json_each\((\?\d*)\)\)/g,
    '= ANY (ARRAY(SELECT $1 FROM jsonb_array_elements_text($2::text::jsonb) AS listed(value)))',
  ],
  [/IN \((SELECT id FROM reached)\)/g, '= ANY (ARRAY($1))'],
  [/json_each\((\?\d*)\) AS (\w+)/g, 'jsonb_array_elements($1::text::jsonb) WITH ORDINALITY AS $2(value, key)'],
  [/json_each\((\?\d*)\)/g, 'jsonb_array_elements($1::text::jsonb) AS listed(value)'],
  [/json_group_array\((.+?)\)\s+FROM/g, "coalesce(json_agg($1), '[]'::json) FROM"],
  [/\bjson_array\(/g, 'json_build_array('],
  [/ AS document\b/g, '::text AS document'],
  // Only says an order of reading to SQLite.
  [/\bCROSS JOIN\b/g, 'JOIN'],
  // SQLite compares bytes; here it is the database's language that orders text.
  [/ORDER BY type, value\b/g, 'ORDER BY type COLLATE "C", value COLLATE "C"'],
  [/ORDER BY (b\.trust_domain)\b/g, 'ORDER BY $1 COLLATE "C"'],
  // Where one batch after the other is not a matter of course, see guardedByLease.
  [/\/\* held until the end of the batch \*\//g, 'FOR SHARE'],
]

/**
 * Rewrites a statement of the queries, which are written in SQLite's words, in PostgreSQL's: lists as JSON, the order of text, and
 * parameters. The contract of stores runs every statement on both.
 */
export function postgresSql(sql: string): string {
  const before = known.get(sql)
  if (before !== undefined) return before
  let text = sql
  for (const [words, others] of DIFFERENCES) text = text.replace(words, others)
  let last = 0
  text = text.replace(/\?(\d*)/g, (_, number: string) => {
    last = number === '' ? last + 1 : Number(number)
    return `$${last}`
  })
  if (known.size >= MOST_KNOWN) known.clear()
  known.set(sql, text)
  return text
}
