import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SERVER } from '../../agent/server-methods.ts'
import { edgeSuite } from '../contract/edge.ts'
import { attestByToken, channelTo, type Place, type Seed, seed } from '../support/edge.ts'
import { besideWorker, type RunningWorker, startWorker } from '../support/worker.ts'

const folder = mkdtempSync(join(tmpdir(), 'turret-workerd-'))
let seeds: Seed
let worker: RunningWorker

const place = (): Place => ({ url: worker.url, roots: seeds.roots, audience: 'https://id.example.org' })

beforeAll(async () => {
  seeds = await besideWorker(folder, seed)
  worker = await startWorker(folder)
}, 60_000)
afterAll(async () => {
  await worker?.stop()
  rmSync(folder, { recursive: true, force: true })
})

edgeSuite(() => ({ ...seeds, place: place(), logged: () => worker.logged() }))

test('a restart keeps authorities, agents and entries', async () => {
  const agent = await attestByToken(place(), seeds.tokens.pop()!)
  const before = await (await fetch(worker.url)).text()
  await worker.stop()
  worker = await startWorker(folder)
  expect(await (await fetch(worker.url)).text()).toBe(before)
  await channelTo(place(), agent.identity).unary(SERVER.getAuthorizedEntries, { outputMask: undefined })
}, 30_000)

test('cron does no harm', async () => {
  const before = await (await fetch(worker.url)).text()
  await worker.maintain()
  await worker.maintain()
  expect(await (await fetch(worker.url)).text()).toBe(before)
})

test('two instances on one database answer for each other', async () => {
  const other = await startWorker(folder)
  try {
    const agent = await attestByToken(place(), seeds.tokens.pop()!)
    const there = { ...place(), url: other.url }
    await channelTo(there, agent.identity).unary(SERVER.getAuthorizedEntries, { outputMask: undefined })
    expect(await (await fetch(other.url)).text()).toBe(await (await fetch(worker.url)).text())
  } finally {
    await other.stop()
  }
}, 30_000)
