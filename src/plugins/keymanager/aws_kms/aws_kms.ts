import { base64, fromBase64 } from '../../../core/base64.ts'
import type { EpochSeconds } from '../../../core/clock.ts'
import { errorMessage, StatusError, wrapError } from '../../../core/error.ts'
import type { KeyType, Signer } from '../../../core/key-type.ts'
import type { Log } from '../../../core/log.ts'
import type { KeyManager } from '../../../core/plugin.ts'
import type { TrustDomain } from '../../../core/trust-domain.ts'
import { AwsError, type AwsSend } from '../../aws/call.ts'
import { paced, remoteSigner } from '../remote-signer.ts'

export interface AwsKmsOptions {
  readonly trustDomain: TrustDomain
  /** Names this server, or all replicas that share their keys; part of every alias. */
  readonly serverId: string
  readonly kms: AwsSend
  readonly sts: AwsSend
  /** Policy document of new keys; default: full rights for the server's own role. */
  readonly keyPolicy?: string
  readonly keyTags?: Readonly<Record<string, string>>
  readonly log: Log
  /** Calls at once; default 50. */
  readonly concurrency?: number
}

interface Key {
  readonly arn: string
  readonly signer: Signer
}

const SPECS = {
  'ec-p256': 'ECC_NIST_P256',
  'ec-p384': 'ECC_NIST_P384',
  'rsa-2048': 'RSA_2048',
  'rsa-4096': 'RSA_4096',
} as const
const ALGORITHMS = {
  'ec-p256': 'ECDSA_SHA_256',
  'ec-p384': 'ECDSA_SHA_384',
  'rsa-2048': 'RSASSA_PKCS1_V1_5_SHA_256',
  'rsa-4096': 'RSASSA_PKCS1_V1_5_SHA_256',
} as const

const REFRESH_ALIASES_SECONDS = 6 * 3600
const DISPOSE_ALIASES_SECONDS = 24 * 3600
const DISPOSE_KEYS_SECONDS = 48 * 3600
const UNUSED_ALIAS_SECONDS = 14 * 86400
const ORPHAN_KEY_SECONDS = 48 * 3600
const DELETION_WINDOW_DAYS = 7

/**
 * Keys in AWS KMS, named as SPIRE names them: `alias/SPIRE_SERVER/<trust domain>/<server id>/<key id>`, so that either takes over the
 * other's keys. Private keys never leave KMS: each signature is a call.
 *
 * @see server.md 8.1
 */
export function awsKmsKeyManager(options: AwsKmsOptions): KeyManager {
  const { serverId, log } = options
  const domainPart = options.trustDomain.replaceAll('.', '_')
  const domainPrefix = `alias/SPIRE_SERVER/${domainPart}/`
  const serverPrefix = `${domainPrefix}${serverId}/`
  const descriptionPrefix = `SPIRE_SERVER_KEY/${domainPart}`
  const inTurn = paced(options.concurrency ?? 50)
  const known = new Map<string, Key>()
  /** Keys that were replaced and could not be scheduled for deletion yet. */
  const outdated = new Set<string>()
  const doneAt = new Map<string, EpochSeconds>()
  let policy: Promise<string | undefined> | undefined

  async function call(action: string, input: object, complaint: string): Promise<Answer> {
    const headers = { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': `TrentService.${action}` }
    try {
      return JSON.parse((await inTurn(() => options.kms(headers, JSON.stringify(input)))) || '{}') as Answer
    } catch (error) {
      throw wrapError('INTERNAL', complaint, error)
    }
  }

  const signerOf = (arn: string, type: KeyType, publicKey: Uint8Array): Signer =>
    remoteSigner(type, publicKey, async (digest) => {
      const input = { KeyId: arn, Message: base64(digest), MessageType: 'DIGEST', SigningAlgorithm: ALGORITHMS[type] }
      return bytesIn(await call('Sign', input, 'failed to sign'), 'Signature')
    })

  const aliasOf = (id: string) => `${serverPrefix}${encodeKeyId(id)}`

  /** The key that an alias points at now: a replica may have replaced it. */
  async function fetchKey(alias: string, before?: Key): Promise<Key> {
    const { KeyMetadata: about } = await call('DescribeKey', { KeyId: alias }, 'failed to describe key')
    const type = Object.entries(SPECS).find(([, spec]) => spec === about?.KeySpec)?.[0] as KeyType | undefined
    if (!about?.Arn) throw new StatusError('INTERNAL', 'malformed describe key response')
    if (!about.Enabled) {
      throw new StatusError('FAILED_PRECONDITION', `found disabled SPIRE key: "${about.Arn}", alias: "${alias}"`)
    }
    if (before?.arn === about.Arn) return before
    if (!type) throw new StatusError('INTERNAL', `unsupported key spec: ${about.KeySpec}`)
    const publicKey = await call('GetPublicKey', { KeyId: about.Arn }, 'failed to get public key')
    return { arn: about.Arn, signer: signerOf(about.Arn, type, bytesIn(publicKey, 'PublicKey')) }
  }

  async function* pages(action: string, input: object, complaint: string): AsyncGenerator<Answer> {
    for (let marker: string | undefined; ; ) {
      const page = await call(action, { ...input, ...(marker ? { Marker: marker } : {}) }, complaint)
      yield page
      if (!page.Truncated || !page.NextMarker) return
      marker = page.NextMarker
    }
  }

  async function* aliases(prefix: string, keyId?: string): AsyncGenerator<Alias> {
    const input = { Limit: 100, ...(keyId ? { KeyId: keyId } : {}) }
    for await (const page of pages('ListAliases', input, 'failed to fetch aliases')) {
      for (const alias of page.Aliases ?? []) if (alias.AliasName?.startsWith(prefix)) yield alias
    }
  }

  async function generateKey(id: string, type: KeyType): Promise<Signer> {
    policy ??= options.keyPolicy === undefined ? rolePolicy(options.sts, log) : Promise.resolve(options.keyPolicy)
    const document = await policy.catch((error) => {
      policy = undefined
      throw wrapError('INTERNAL', 'unable to create policy', error)
    })
    const created = await call(
      'CreateKey',
      {
        Description: `${descriptionPrefix}/${id}`,
        KeyUsage: 'SIGN_VERIFY',
        KeySpec: SPECS[type],
        ...(document === undefined ? {} : { Policy: document }),
        ...(options.keyTags
          ? { Tags: Object.entries(options.keyTags).map(([TagKey, TagValue]) => ({ TagKey, TagValue })) }
          : {}),
      },
      'failed to create key',
    )
    const arn = created.KeyMetadata?.Arn
    if (!arn) throw new StatusError('INTERNAL', 'malformed create key response')
    const publicKey = await call('GetPublicKey', { KeyId: arn }, 'failed to get public key')
    const signer = signerOf(arn, type, bytesIn(publicKey, 'PublicKey'))
    const former = known.get(id)
    // The key is ours from the moment its alias points at it; one whose alias failed is swept up as an orphan.
    await pointAlias(aliasOf(id), arn)
    known.set(id, { arn, signer })
    log.debug('Key created', { key_arn: arn })
    if (former) await scheduleDeletion(former.arn)
    return signer
  }

  async function pointAlias(AliasName: string, TargetKeyId: string): Promise<void> {
    try {
      await call('CreateAlias', { AliasName, TargetKeyId }, 'failed to create alias')
    } catch (error) {
      if (codeOf(error) !== 'AlreadyExistsException') throw error
      await call('UpdateAlias', { AliasName, TargetKeyId }, 'failed to update alias')
    }
  }

  /** A key that cannot be scheduled now is tried again at the next maintenance: the new one is in use already. */
  async function scheduleDeletion(KeyId: string): Promise<void> {
    outdated.add(KeyId)
    try {
      const input = { KeyId, PendingWindowInDays: DELETION_WINDOW_DAYS }
      await call('ScheduleKeyDeletion', input, 'failed to schedule key deletion')
      log.debug('Key scheduled for deletion', { key_arn: KeyId })
    } catch (error) {
      const final = FINAL_ERRORS.has(codeOf(error) ?? '')
      log.error('It was not possible to schedule key for deletion', { key_arn: KeyId, reason: errorMessage(error) })
      if (!final) return
    }
    outdated.delete(KeyId)
  }

  async function getKey(id: string): Promise<Signer | undefined> {
    try {
      const key = await fetchKey(aliasOf(id), known.get(id))
      known.set(id, key)
      return key.signer
    } catch (error) {
      if (codeOf(error) === 'NotFoundException') return undefined
      throw error
    }
  }

  async function getKeys(): Promise<ReadonlyMap<string, Signer>> {
    const found: (readonly [id: string, alias: string])[] = []
    for await (const { AliasName } of aliases(serverPrefix)) {
      found.push([decodeKeyId(AliasName!.slice(serverPrefix.length)), AliasName!])
    }
    const keys = await Promise.all(
      found.map(async ([id, alias]) => [id, await fetchKey(alias, known.get(id))] as const),
    )
    known.clear()
    for (const [id, key] of keys) known.set(id, key)
    return new Map(keys.map(([id, { signer }]) => [id, signer]))
  }

  /** Touches the aliases in use, so that others see that they are. */
  async function refreshAliases(): Promise<void> {
    for (const [id, { arn }] of known) {
      const AliasName = aliasOf(id)
      const { KeyMetadata: about } = await call('DescribeKey', { KeyId: AliasName }, 'failed to describe key')
      if (about?.Arn === arn) await call('UpdateAlias', { AliasName, TargetKeyId: arn }, 'failed to refresh alias')
      else log.warn('Alias is of another key by now, it is not refreshed', { alias_name: AliasName })
    }
  }

  /** Removes what servers of this trust domain left behind that have not been seen for two weeks. */
  async function disposeAliases(now: EpochSeconds): Promise<void> {
    for await (const alias of aliases(domainPrefix)) {
      if (alias.AliasName!.startsWith(serverPrefix) || !alias.TargetKeyId) continue
      if (alias.LastUpdatedDate === undefined || now - alias.LastUpdatedDate < UNUSED_ALIAS_SECONDS) continue
      const { KeyMetadata: about } = await call('DescribeKey', { KeyId: alias.TargetKeyId }, 'failed to describe key')
      if (!about?.Enabled || !about.Arn) continue
      await call('DeleteAlias', { AliasName: alias.AliasName }, 'failed to delete alias')
      await scheduleDeletion(about.Arn)
    }
  }

  /** Removes keys of this trust domain that never got an alias. */
  async function disposeKeys(now: EpochSeconds): Promise<void> {
    for await (const page of pages('ListKeys', { Limit: 1000 }, 'failed to fetch keys')) {
      for (const { KeyArn } of page.Keys ?? []) {
        const { KeyMetadata: about } = await call('DescribeKey', { KeyId: KeyArn }, 'failed to describe key')
        if (!about?.Enabled || !about.Description?.startsWith(`${descriptionPrefix}/`)) continue
        if (about.CreationDate === undefined || now - about.CreationDate < ORPHAN_KEY_SECONDS) continue
        if (!(await aliases('', KeyArn).next()).done) continue
        await scheduleDeletion(KeyArn!)
      }
    }
  }

  async function maintain(now: EpochSeconds): Promise<void> {
    for (const arn of [...outdated]) await scheduleDeletion(arn)
    const tasks = [
      ['refresh aliases', refreshAliases, REFRESH_ALIASES_SECONDS],
      ['dispose aliases', disposeAliases, DISPOSE_ALIASES_SECONDS],
      ['dispose keys', disposeKeys, DISPOSE_KEYS_SECONDS],
    ] as const
    for (const [name, task, everySeconds] of tasks) {
      const last = doneAt.get(name)
      // The first time counts from the start, as SPIRE's timers do.
      if (last === undefined) doneAt.set(name, now)
      else if (now - last >= everySeconds) {
        await task(now)
        doneAt.set(name, now)
      }
    }
  }

  return { generateKey, getKey, getKeys, maintain }
}

/** What AWS called the reason of a failed call. */
function codeOf(error: unknown): string | undefined {
  const cause = (error as Error).cause
  return cause instanceof AwsError ? cause.awsCode : undefined
}

/** Answers after which trying again makes no sense: the key is gone, or on its way. */
const FINAL_ERRORS = new Set(['NotFoundException', 'InvalidArnException', 'KMSInvalidStateException'])

interface Alias {
  readonly AliasName?: string
  readonly TargetKeyId?: string
  /** Unix seconds, with a fraction. */
  readonly LastUpdatedDate?: number
}

/** What of the answers is read. */
interface Answer {
  readonly KeyMetadata?: {
    readonly Arn?: string
    readonly KeySpec?: string
    readonly Enabled?: boolean
    readonly Description?: string
    readonly CreationDate?: number
  }
  readonly Aliases?: readonly Alias[]
  readonly Keys?: readonly { readonly KeyArn?: string }[]
  readonly Truncated?: boolean
  readonly NextMarker?: string
  readonly PublicKey?: string
  readonly Signature?: string
}

function bytesIn(answer: Answer, field: 'PublicKey' | 'Signature'): Uint8Array {
  const text = answer[field]
  if (!text) throw new StatusError('INTERNAL', `malformed response of KMS: ${field} is missing`)
  return fromBase64(text)
}

/** Aliases take neither `.` nor `+`. */
function encodeKeyId(id: string): string {
  return id.replaceAll('.', '_2e').replaceAll('+', '_2b')
}

function decodeKeyId(text: string): string {
  return text.replaceAll('_2e', '.').replaceAll('_2b', '+')
}

/**
 * SPIRE's default: the role of this server may do everything with its keys, the account may look at them. Without a role: KMS's own
 * default, with a warning.
 */
async function rolePolicy(sts: AwsSend, log: Log): Promise<string | undefined> {
  const answer = await sts(
    { 'content-type': 'application/x-www-form-urlencoded' },
    'Action=GetCallerIdentity&Version=2011-06-15',
  )
  const account = /<Account>(\d+)<\/Account>/.exec(answer)?.[1]
  const role = /<Arn>[^<]*:assumed-role\/([^/<]+)\//.exec(answer)?.[1]
  if (!account || !role) {
    log.warn(
      'The server has not assumed a role: its keys get the default policy of KMS. Configure key_policy_file, or let it assume a role',
    )
    return undefined
  }
  const statement = (Sid: string, principal: string, Action: string | readonly string[]) => ({
    Sid,
    Effect: 'Allow',
    Principal: { AWS: `arn:aws:iam::${account}:${principal}` },
    Action,
    Resource: '*',
  })
  return JSON.stringify({
    Version: '2012-10-17',
    Statement: [
      statement('Allow full access to the SPIRE Server role', `role/${role}`, 'kms:*'),
      statement('Allow KMS console to display the key and policy', 'root', ['kms:Describe*', 'kms:List*', 'kms:Get*']),
    ],
  })
}
