/**
 * Replaces `$NAME` and `${NAME}` as Go's os.Expand does: names that are not set become empty, `$$` a dollar sign.
 */
export function expandEnv(text: string, environment: Readonly<Record<string, string | undefined>>): string {
  return text.replace(/\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*)|([*#$@!?0-9-]))/g, (_, braced, name, special) => {
    if (special === '$') return '$'
    return environment[braced ?? name ?? special] ?? ''
  })
}
