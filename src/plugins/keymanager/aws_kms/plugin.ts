import { readFileSync } from 'node:fs'
import type { PlainObject, PlainValue } from '../../../config/plain.ts'
import { half, type PluginDeclaration } from '../../plugin.ts'
import { objectOf, textOf } from '../../plugin-data.ts'
import { readServerName, type ServerName, serverIdOf, started } from '../service.ts'

const NAME = 'aws_kms'

interface AwsKmsConfig {
  readonly region: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly server: ServerName
  readonly policyFile: string
  readonly tags: Readonly<Record<string, string>> | undefined
  readonly shared: boolean
}

/** @throws Error with SPIRE's texts */
export function readAwsKms(data: PlainObject): AwsKmsConfig {
  const region = textOf(data, 'region')
  if (region === '') throw new Error('configuration is missing a region')
  const server = readServerName(data)
  if (/[^A-Za-z0-9/_-]/.test(server.value)) {
    throw new Error(
      'Key identifier must contain only alphanumeric characters, forward slashes (/), underscores (_), and dashes (-)',
    )
  }
  if (server.value.startsWith('alias/aws/')) throw new Error('Key identifier must not start with alias/aws/')
  if (server.value.length > 256) throw new Error('Key identifier must not be longer than 256 characters')
  if (server.file === '' && server.value === '') {
    throw new Error('configuration requires a key identifier file or a key identifier value')
  }
  if (server.file !== '' && server.value !== '') {
    throw new Error("configuration can't have a key identifier file and a key identifier value at the same time")
  }
  const tags = data.key_tags === undefined ? undefined : tagsOf(data.key_tags)
  if (data.enable_tag_based_key_discovery === true) {
    throw new Error('enable_tag_based_key_discovery is not supported by this version; keys are found by their aliases')
  }
  return {
    region,
    accessKeyId: textOf(data, 'access_key_id'),
    secretAccessKey: textOf(data, 'secret_access_key'),
    server,
    policyFile: textOf(data, 'key_policy_file'),
    tags,
    shared: data.shared === true,
  }
}

const declaration: PluginDeclaration<'KeyManager'> = {
  server: half({
    keys: [
      'region',
      'access_key_id',
      'secret_access_key',
      'key_identifier_file',
      'key_identifier_value',
      'key_policy_file',
      'key_tags.*',
      'enable_tag_based_key_discovery',
      'shared',
    ],
    read: readAwsKms,
    async make({ region, accessKeyId, secretAccessKey, server, policyFile, tags, shared }, host) {
      const { trustDomain, clock, log, env } = host
      const serverId = serverIdOf(server)
      const { awsKmsKeyManager } = await import('./aws_kms.ts')
      const { awsCredentials, awsEndpoint } = await import('../../aws/credentials.ts')
      const { awsService } = await import('../../aws/call.ts')
      const credentials = awsCredentials({ accessKeyId, secretAccessKey, region, env, nowMs: clock.nowMs })
      const service = (name: string) =>
        awsService({ service: name, region, endpoint: awsEndpoint(name, region, env), credentials })
      const manager = awsKmsKeyManager({
        trustDomain,
        serverId,
        kms: service('kms'),
        sts: service('sts'),
        ...(policyFile === '' ? {} : { keyPolicy: readFileSync(policyFile, 'utf8') }),
        ...(tags === undefined ? {} : { keyTags: tags }),
        log,
      })
      return started(manager, shared ? `${NAME} ${serverId}` : undefined, clock)
    },
  }),
}
export default declaration

function tagsOf(value: PlainValue): Readonly<Record<string, string>> {
  const tags: Record<string, string> = {}
  for (const [key, tag] of Object.entries(objectOf(value))) {
    if (typeof tag !== 'string' || !/^[\p{L}\p{N}\s+\-=._:/@]*$/u.test(tag) || tag.length > 256) {
      throw new Error(`invalid configuration for key tags: the value of ${JSON.stringify(key)} is not allowed`)
    }
    if (!/^[\p{L}\p{N}\s+\-=._:/@]{1,128}$/u.test(key) || key.startsWith('aws:')) {
      throw new Error(`invalid configuration for key tags: the key ${JSON.stringify(key)} is not allowed`)
    }
    tags[key] = tag
  }
  return tags
}
