import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Outcome, type Program, SPIRE_IS_MISSING, sideBySide } from '../support/side-by-side.ts'

/** The same steps with SPIRE's command line at a SPIRE server and at ours: prepare, activate, taint, revoke. */
if (SPIRE_IS_MISSING) console.warn('SPIRE_BIN is not set: changes of authorities are NOT compared with SPIRE')

describe.skipIf(SPIRE_IS_MISSING)('authorities change as those of SPIRE', { timeout: 60_000 }, () => {
  const both = sideBySide({})
  beforeAll(() => both.start(), 30_000)
  afterAll(() => both.stop())

  /** In these lines FIRST, SECOND, ... stand for authority ids in the order of their appearance. */
  const steps = (kind: 'x509' | 'jwt') => `
    localauthority ${kind} show
    localauthority ${kind} show -output json
    localauthority ${kind} activate -authorityID FIRST
    localauthority ${kind} taint -authorityID FIRST
    localauthority ${kind} revoke -authorityID FIRST
    localauthority ${kind} taint -authorityID none
    localauthority ${kind} revoke -authorityID none
    localauthority ${kind} activate -authorityID none
    localauthority ${kind} prepare
    localauthority ${kind} show
    localauthority ${kind} taint -authorityID SECOND
    localauthority ${kind} revoke -authorityID SECOND
    localauthority ${kind} prepare -output json
    localauthority ${kind} activate -authorityID SECOND
    localauthority ${kind} activate -authorityID THIRD
    localauthority ${kind} show -output json
    localauthority ${kind} activate -authorityID FIRST
    localauthority ${kind} revoke -authorityID FIRST
    localauthority ${kind} taint -authorityID FIRST
    bundle show -output json
    localauthority ${kind} taint -authorityID FIRST
    localauthority ${kind} revoke -authorityID FIRST -output json
    localauthority ${kind} revoke -authorityID FIRST
    localauthority ${kind} taint -authorityID FIRST
    localauthority ${kind} show
    bundle show -output json
    upstreamauthority taint -subjectKeyID ab
    upstreamauthority revoke -subjectKeyID ab`

  test.each(['x509', 'jwt'] as const)('%s', async (kind) => {
    const names = ['FIRST', 'SECOND', 'THIRD', 'FOURTH']
    const seen: Record<Program, string[]> = { SPIRE: [], Turret: [] }
    const pattern = kind === 'x509' ? /\b[0-9a-f]{40}\b/g : /\b[A-Za-z0-9]{32}\b/g
    const step = async (program: Program, line: string): Promise<Outcome> => {
      const ids = seen[program]
      const args = line.split(' ').map((word) => ids[names.indexOf(word)] ?? word)
      const { code, out, err } = await both.run('SPIRE', ...args, '-socketPath', both.socket(program))
      if (line.includes('localauthority')) {
        for (const [id] of out.matchAll(pattern)) if (!ids.includes(id)) ids.push(id)
      }
      const plain = (text: string) =>
        ids
          .reduce((all, id, index) => all.replaceAll(id, names[index]!), text)
          .replace(/"(asn1|public_key)":"[^"]*"/g, '"$1":"BYTES"')
          // The other kind's key.
          .replace(/"key_id":"[A-Za-z0-9]{32}"/g, '"key_id":"ID"')
          .replace(/(Expires at: ).*/g, '$1TIME')
          .replace(/"expires_at":"[1-9]\d+"/g, '"expires_at":"TIME"')
      return { code, out: plain(out), err: plain(err) }
    }
    for (const line of steps(kind).trim().split(/\n\s*/)) {
      const [ours, theirs] = [await step('Turret', line), await step('SPIRE', line)]
      expect({ line, ...ours }).toEqual({ line, ...theirs })
    }
    expect(seen.Turret).toHaveLength(3)
  })
})
