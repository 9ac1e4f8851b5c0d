/**
 * Measures our server and agent, and beside them a real SPIRE where SPIRE_BIN names a folder with its programs, and compares
 * the CPU time per operation with the budgets. Exits 1 if a budget was missed.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { AT_REST, BUDGETS, MANY_ENTRIES, type Setting } from './budgets.ts'
import { findLoad, type Load, type Measurement } from './load.ts'
import { type Programs, type Running, startAgent, startServer } from './target.ts'

const USAGE = `npm run bench -- [options]
  --only a,b     measure only these: ${Object.keys(BUDGETS).join(', ')}
  --seconds N    time of each measurement, default 5
  --load PATH    source folder of the load generator, or the program; default $SPIFFELOAD, then ../shared/bench
  --json         one JSON object a measurement instead of the table
$SPIRE_BIN       a folder with spire-server and spire-agent to measure in the same run
`
/** What a process needs to come to rest before its memory is read. */
const REST_MS = 2_000
/** What a measurement may take beside its own time, for what it prepares; a server or agent that stops to answer is told then. */
const PREPARATION_SECONDS = 30

interface Row {
  readonly name: string
  readonly unit: string
  readonly value: number
  readonly perSecond: number | undefined
  readonly atMost: number | undefined
  readonly note: string
}

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    seconds: { type: 'string', default: '5' },
    load: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) {
  console.log(USAGE)
} else {
  process.exitCode = await main().catch((error: Error) => {
    console.error(`bench: ${error.message}`)
    return 1
  })
}

async function main(): Promise<number> {
  const names = values.only?.split(',') ?? Object.keys(BUDGETS)
  const unknown = names.find((name) => !(name in BUDGETS))
  if (unknown !== undefined) throw new Error(`unknown measurement ${JSON.stringify(unknown)}\n${USAGE}`)
  if (!existsSync('/proc/self/stat')) throw new Error('needs Linux: CPU time is read from /proc')
  const load = findLoad(values.load)
  const bin = resolve(import.meta.dirname, '../../bin')
  const ours = await measure(
    { name: 'turret', server: join(bin, 'turret-server'), agent: join(bin, 'turret-agent') },
    names,
    load,
  )
  const theirs = new Map<string, Row>()
  const spire = process.env.SPIRE_BIN
  if (spire) {
    const programs = { name: 'spire', server: join(spire, 'spire-server'), agent: join(spire, 'spire-agent') }
    for (const row of await measure(programs, names, load)) theirs.set(row.name, row)
  }
  if (values.json) for (const row of ours) console.log(JSON.stringify({ ...row, spire: theirs.get(row.name) }))
  else printTable(ours, theirs)
  return ours.every((row) => row.atMost === undefined || row.value <= row.atMost) ? 0 : 1
}

async function measure(programs: Programs, names: readonly string[], load: Load): Promise<Row[]> {
  const rows: Row[] = []
  const folder = mkdtempSync(join(tmpdir(), `turret-bench-${programs.name}-`))
  const running: Running[] = []
  const chosen = (setting: Setting) => names.filter((name) => BUDGETS[name]!.setting === setting)
  const run = async (setting: Setting, args: readonly string[]) => {
    const common = ['-d', `${values.seconds}s`, '-entries', String(MANY_ENTRIES), ...args]
    const ops = chosen(setting)
    const timeoutMs = ops.length * (Number(values.seconds) + PREPARATION_SECONDS) * 1000
    const lines = await load([...common, ...ops], timeoutMs)
    for (const line of lines) rows.push(toRow(line))
    for (const op of ops.slice(lines.length)) rows.push(toRow({ op, errors: 1 }))
  }
  try {
    // The first start after an installation or a change fills the compile cache; what is measured is any other one.
    const warmUp = await startServer(programs, join(folder, 'warm-up'))
    running.push(warmUp)
    if (chosen('agent').length > 0) await (await startAgent(programs, warmUp, join(folder, 'warm-up'))).stop()
    await warmUp.stop()
    const server = await startServer(programs, join(folder, 'server'))
    running.push(server)
    await pause(REST_MS)
    rows.push(...atRest('server', server))
    const serverArgs = ['-server', server.address, '-admin', server.socket, '-pid', String(server.pid)]
    if (chosen('server').length > 0) await run('server', serverArgs)
    if (chosen('agent').length > 0) {
      const agent = await startAgent(programs, server, join(folder, 'server'))
      running.push(agent)
      await pause(REST_MS)
      rows.push(...atRest('agent', agent))
      await run('agent', ['-workload', agent.socket, '-pid', String(agent.pid)])
      await agent.stop()
    }
    if (chosen('server-5k').length > 0) await run('server-5k', serverArgs)
  } finally {
    for (const process of running.reverse()) await process.stop()
    rmSync(folder, { recursive: true, force: true })
  }
  return rows
}

function toRow(line: Measurement): Row {
  const { unit, atMost } = BUDGETS[line.op]!
  const failures = line.failed ?? line.errors ?? 0
  const notes = []
  if (line.p99_ms !== undefined) notes.push(`p50 ${line.p50_ms} ms, p99 ${line.p99_ms} ms`)
  if (line.all_served_s !== undefined) notes.push(`all in ${line.all_served_s} s, ${line.kib_per_stream} KiB each`)
  if (failures > 0) notes.push(`${failures} failed: ${line.first_error ?? 'no answer'}`)
  return {
    name: line.op,
    unit: `CPU ms per ${unit}`,
    // A failed operation is no result, however cheap it was.
    value: failures > 0 ? Number.POSITIVE_INFINITY : (line.cpu_ms_per_op ?? line.cpu_ms_per_stream ?? 0),
    perSecond: line.per_s,
    atMost,
    note: notes.join('; '),
  }
}

function atRest(kind: 'server' | 'agent', process: Running): Row[] {
  const { startSeconds, rssMiB } = AT_REST[kind]
  const common = { perSecond: undefined, note: '' }
  return [
    { ...common, name: `${kind}-start`, unit: 's to healthy', value: process.startSeconds, atMost: startSeconds },
    { ...common, name: `${kind}-idle`, unit: 'MiB resident', value: process.rssMiB(), atMost: rssMiB },
  ]
}

function printTable(ours: readonly Row[], theirs: ReadonlyMap<string, Row>): void {
  const lines = [['measurement', 'turret', 'at most', '', 'ops/s', 'spire', 'ops/s', 'turret/spire', 'unit', 'notes']]
  for (const row of ours) {
    const other = theirs.get(row.name)
    const verdict = row.atMost === undefined ? '' : row.value <= row.atMost ? 'ok' : 'MISSED'
    lines.push([
      row.name,
      figure(row.value),
      figure(row.atMost),
      verdict,
      figure(row.perSecond),
      figure(other?.value),
      figure(other?.perSecond),
      other === undefined ? '' : figure(row.value / other.value),
      row.unit,
      row.note,
    ])
  }
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  for (const line of lines)
    console.log(
      line
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
}

function figure(value: number | undefined): string {
  if (value === undefined) return ''
  if (!Number.isFinite(value)) return 'failed'
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(value >= 1 ? 2 : 3)
}
