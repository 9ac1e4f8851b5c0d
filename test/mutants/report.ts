import { readFileSync } from 'node:fs'
import { dirname } from 'node:path'

/** A change that no test can see, since it changes nothing; `was` and `becomes` are lines of the report. */
export interface Equivalent {
  readonly file: string
  readonly was: string
  readonly becomes: string
  readonly reason: string
}

export interface FileResults {
  readonly file: string
  readonly source: string
  readonly mutants: readonly Mutant[]
}

/** @see https://github.com/stryker-mutator/mutation-testing-elements, its report schema; lines and columns from 1 */
interface Mutant {
  readonly location: Record<'start' | 'end', { readonly line: number; readonly column: number }>
  readonly replacement?: string
  readonly status: string
}

interface Tally {
  killed: number
  total: number
}

const LONGEST = 200

/** Reads what Stryker keeps for some files. */
export function readResults(incrementalFile: string, files: readonly string[]): FileResults[] {
  const report: { files: Record<string, Omit<FileResults, 'file'>> } = JSON.parse(readFileSync(incrementalFile, 'utf8'))
  return files.flatMap((file) => (report.files[file] ? [{ file, ...report.files[file] }] : []))
}

/** How many mutants each folder and file has and how many tests killed, then who survived and where. */
export function reportOf(results: readonly FileResults[], equivalents: readonly Equivalent[]): string {
  const folders = new Map<string, Tally>()
  const files = new Map<string, Tally>()
  const survivors: string[] = []
  const met = new Set<Equivalent>()
  for (const { file, source, mutants } of results) {
    const folder = tallyOf(folders, dirname(file))
    const own = tallyOf(files, file)
    for (const mutant of mutants.toSorted((a, b) => a.location.start.line - b.location.start.line)) {
      const killed = mutant.status === 'Killed' || mutant.status === 'Timeout'
      if (!killed && mutant.status !== 'Survived' && mutant.status !== 'NoCoverage') continue
      const { was, becomes } = linesOf(source, mutant)
      const equivalent = equivalents.find((one) => one.file === file && one.was === was && one.becomes === becomes)
      if (equivalent) met.add(equivalent)
      if (equivalent && !killed) continue
      for (const tally of [folder, own]) {
        tally.total += 1
        if (killed) tally.killed += 1
      }
      if (!killed) {
        const untested = mutant.status === 'NoCoverage' ? ' (no test comes here)' : ''
        survivors.push(`${file}:${mutant.location.start.line}${untested}\n  - ${was}\n  + ${becomes}`)
      }
    }
  }
  const stale = equivalents.filter((one) => files.has(one.file) && !met.has(one))
  return [
    table('folder', folders),
    table('file', files),
    `${survivors.length} survived\n${survivors.join('\n')}`,
    ...(stale.length > 0
      ? [`in equivalent.json, but no mutant:\n${stale.map(({ file, was }) => `${file}: ${was}`).join('\n')}`]
      : []),
  ].join('\n\n')
}

function tallyOf(tallies: Map<string, Tally>, name: string): Tally {
  const known = tallies.get(name) ?? { killed: 0, total: 0 }
  tallies.set(name, known)
  return known
}

function table(title: string, tallies: ReadonlyMap<string, Tally>): string {
  const rows = [...tallies].map(
    ([name, { killed, total }]) =>
      `| ${name} | ${killed}/${total} | ${total === 0 ? '-' : `${((killed / total) * 100).toFixed(0)} %`} |`,
  )
  return [`| ${title} | killed | |`, '| --- | --- | --- |', ...rows].join('\n')
}

/** The lines that a mutant touches, before and after, each as one. */
function linesOf(source: string, { location: { start, end }, replacement = '' }: Mutant) {
  const lines = source.split('\n')
  const before = lines[start.line - 1]!.slice(0, start.column - 1)
  const after = lines[end.line - 1]!.slice(end.column - 1)
  const was = lines.slice(start.line - 1, end.line).join('\n')
  return { was: oneLine(was), becomes: oneLine(`${before}${replacement}${after}`) }
}

function oneLine(text: string): string {
  const line = text.replace(/\s+/g, ' ').trim()
  return line.length > LONGEST ? `${line.slice(0, LONGEST)}...` : line
}
