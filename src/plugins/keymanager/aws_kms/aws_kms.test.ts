import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { keyManagerSuite } from '../../../../test/contract/keymanager.ts'
import { hasPython, type Service, startMoto } from '../../../../test/support/aws/moto.ts'
import type { Log, LogFields } from '../../../core/log.ts'
import { parseTrustDomainName } from '../../../core/trust-domain.ts'
import { type AwsSend, awsService } from '../../aws/call.ts'
import { awsCredentials } from '../../aws/credentials.ts'
import { type AwsKmsOptions, awsKmsKeyManager } from './aws_kms.ts'

const REGION = 'eu-west-1'
const trustDomain = parseTrustDomainName('example.org')

let moto: Service
let servers = 0
const logged: string[] = []
const write = (message: string, fields?: LogFields) => void logged.push(`${message} ${JSON.stringify(fields ?? {})}`)
const log: Log = { debug: write, info: write, warn: write, error: write, child: () => log, debugEnabled: true }

describe.skipIf(!hasPython)(`aws_kms on moto${hasPython ? '' : ' (skipped: there is no python3 with venv)'}`, () => {
  beforeAll(async () => {
    moto = await startMoto()
  }, 120_000)
  afterAll(() => moto?.stop())

  const credentials = awsCredentials({
    accessKeyId: 'AKIDEXAMPLE',
    secretAccessKey: 'the-secret-access-key',
    region: REGION,
    env: {},
    nowMs: Date.now,
  })
  const service = (name: string) =>
    awsService({ service: name, region: REGION, endpoint: `${moto.address}/`, credentials })
  const open = (changes: Partial<AwsKmsOptions> = {}) =>
    awsKmsKeyManager({
      trustDomain,
      serverId: `server-${++servers}`,
      kms: service('kms'),
      sts: service('sts'),
      log,
      ...changes,
    })
  /** Asks KMS itself. */
  async function kms(action: string, input: object) {
    const headers = { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': `TrentService.${action}` }
    return JSON.parse((await service('kms')(headers, JSON.stringify(input))) || '{}')
  }
  const keyAt = async (alias: string) => (await kms('DescribeKey', { KeyId: alias })).KeyMetadata

  keyManagerSuite(async () => open())

  test('keys are there after a restart, under the alias and with the description of SPIRE', async () => {
    const first = await open({ serverId: 'prod' }).generateKey('x509-CA-A', 'ec-p256')
    const again = open({ serverId: 'prod' })
    expect([...(await again.getKeys()).keys()]).toEqual(['x509-CA-A'])
    expect((await again.getKey('x509-CA-A'))?.publicKey).toEqual(first.publicKey)
    expect(await open({ serverId: 'other' }).getKeys()).toEqual(new Map())
    const about = await keyAt('alias/SPIRE_SERVER/example_org/prod/x509-CA-A')
    expect(about).toMatchObject({ Description: 'SPIRE_SERVER_KEY/example_org/x509-CA-A', KeyUsage: 'SIGN_VERIFY' })
  })

  test('a key that was replaced is scheduled for deletion, and replicas that share the name see the new one', async () => {
    const one = open({ serverId: 'shared' })
    const two = open({ serverId: 'shared' })
    await one.generateKey('JWT-Signer-A', 'ec-p256')
    const { Arn } = await keyAt('alias/SPIRE_SERVER/example_org/shared/JWT-Signer-A')
    expect(await two.getKey('JWT-Signer-A')).toBeDefined()
    const next = await one.generateKey('JWT-Signer-A', 'ec-p256')
    expect((await two.getKey('JWT-Signer-A'))?.publicKey).toEqual(next.publicKey)
    expect(await keyAt(Arn)).toMatchObject({ KeyState: 'PendingDeletion' })
  })

  test('the maintenance sweeps keys without alias, and aliases that nobody refreshed for two weeks', async () => {
    const now = Math.floor(Date.now() / 1000)
    const orphan = (
      await kms('CreateKey', {
        Description: 'SPIRE_SERVER_KEY/example_org/x',
        KeySpec: 'ECC_NIST_P256',
        KeyUsage: 'SIGN_VERIFY',
      })
    ).KeyMetadata.Arn
    const foreign = (await kms('CreateKey', { Description: 'SPIRE_SERVER_KEY/example_org_2/x' })).KeyMetadata.Arn
    await open({ serverId: 'gone' }).generateKey('x509-CA-A', 'ec-p256')
    const left = (await keyAt('alias/SPIRE_SERVER/example_org/gone/x509-CA-A')).Arn
    const manager = open({ serverId: 'alive' })
    await manager.generateKey('x509-CA-A', 'ec-p256')
    const used = (await keyAt('alias/SPIRE_SERVER/example_org/alive/x509-CA-A')).Arn
    await manager.maintain!(now)
    expect((await keyAt(orphan)).KeyState).toBe('Enabled')
    await manager.maintain!(now + 15 * 86400)
    expect((await keyAt(orphan)).KeyState).toBe('PendingDeletion')
    expect((await keyAt(left)).KeyState).toBe('PendingDeletion')
    expect((await keyAt(foreign)).KeyState).toBe('Enabled')
    expect((await keyAt(used)).KeyState).toBe('Enabled')
  })

  test('a disabled key is an error that names it, not a missing one', async () => {
    const manager = open({ serverId: 'disabled' })
    await manager.generateKey('x509-CA-A', 'ec-p256')
    await kms('DisableKey', { KeyId: (await keyAt('alias/SPIRE_SERVER/example_org/disabled/x509-CA-A')).KeyId })
    await expect(manager.getKeys()).rejects.toThrow('found disabled SPIRE key: "arn:aws:kms:eu-west-1:')
  })

  test('a KMS that fails is an error without secrets; the key in use stays', async () => {
    let broken = false
    const real = service('kms')
    const kms: AwsSend = (headers, body) => (broken ? service('nothing')(headers, 'x') : real(headers, body))
    const manager = open({ kms })
    const signer = await manager.generateKey('x509-CA-A', 'ec-p256')
    broken = true
    const error = await manager.generateKey('x509-CA-A', 'ec-p256').catch((caught: Error) => caught)
    expect(String(error)).toContain('failed to create key')
    expect(String(error) + logged.join()).not.toContain('the-secret-access-key')
    broken = false
    expect((await manager.getKey('x509-CA-A'))?.publicKey).toEqual(signer.publicKey)
  })
})
