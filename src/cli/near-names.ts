/** The names that somebody may have meant, the nearest first: those that two changes, or case and dashes, make of `name`. */
export function nearNames(name: string, names: readonly string[]): readonly string[] {
  const wanted = plain(name)
  return names
    .map((known) => ({ known, distance: known.startsWith(wanted) ? 1 : editDistance(wanted, plain(known)) }))
    .filter(({ distance }) => distance <= Math.min(2, wanted.length - 1))
    .sort((a, b) => a.distance - b.distance)
    .map(({ known }) => known)
}

const plain = (name: string): string => name.slice(0, 64).toLowerCase().replaceAll('-', '_')

/** Levenshtein's: letters to insert, delete or replace. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1))
    }
    row = next
  }
  return row[b.length]!
}
