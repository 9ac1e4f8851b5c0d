/** Finds the container ID in the path of a cgroup; undefined: no pattern matches. */
export type ContainerIdFinder = (path: string) => string | undefined

const ID = '<id>'

/**
 * Patterns of `container_id_cgroup_matchers`: `*` is any segment, `<id>` the one with the ID.
 * @throws Error with SPIRE's texts
 */
export function containerIdFinder(patterns: readonly string[]): ContainerIdFinder {
  const parts = patterns.map((pattern) => pattern.split('/'))
  const ambiguous = patterns.filter((_, one) =>
    parts.some((other, index) => index !== one && canMatchTheSame(parts[one]!, other)),
  )
  if (ambiguous.length > 0) {
    const quoted = [...new Set(ambiguous)].map((pattern) => JSON.stringify(pattern)).join(' ')
    throw new Error(`dockerfinder: patterns must not be ambiguous: [${quoted}]`)
  }
  for (const [index, pattern] of parts.entries()) {
    if (pattern.filter((part) => part === ID).length !== 1)
      throw new Error(`pattern "${patterns[index]}" must contain the container id token "${ID}" exactly once`)
  }
  return (path) => {
    const segments = path.split('/')
    const found = parts.find(
      (pattern) =>
        pattern.length === segments.length &&
        pattern.every((part, index) => part === '*' || part === ID || part === segments[index]),
    )
    return found === undefined ? undefined : segments[found.indexOf(ID)]
  }
}

function canMatchTheSame(one: readonly string[], other: readonly string[]): boolean {
  const any = (part: string) => part === '*' || part === ID
  return one.length === other.length && one.every((part, at) => part === other[at] || any(part) || any(other[at]!))
}
