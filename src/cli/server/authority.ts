import * as wire from '../../../proto/spire/api/server/localauthority/v1.ts'
import type { ClientMethod } from '../../transport/grpc-client.ts'
import { serverCommand } from '../api-command.ts'
import { type ApiClient, explained } from '../client.ts'
import type { Command } from '../command.ts'
import { CommandError } from '../failure.ts'
import { text } from '../flags.ts'
import { utcTimeText } from '../time.ts'

const row = <Req, Res>(
  name: string,
  request: ClientMethod<Req, Res>['request'],
  response: ClientMethod<Req, Res>['response'],
): ClientMethod<Req, Res> => ({ path: `/spire.api.server.localauthority.v1.LocalAuthority/${name}`, request, response })

const methods = {
  jwt: {
    show: row('GetJWTAuthorityState', wire.GetJWTAuthorityStateRequest, wire.GetJWTAuthorityStateResponse),
    prepare: row('PrepareJWTAuthority', wire.PrepareJWTAuthorityRequest, wire.PrepareJWTAuthorityResponse),
    activate: row('ActivateJWTAuthority', wire.ActivateJWTAuthorityRequest, wire.ActivateJWTAuthorityResponse),
    taint: row('TaintJWTAuthority', wire.TaintJWTAuthorityRequest, wire.TaintJWTAuthorityResponse),
    revoke: row('RevokeJWTAuthority', wire.RevokeJWTAuthorityRequest, wire.RevokeJWTAuthorityResponse),
  },
  x509: {
    show: row('GetX509AuthorityState', wire.GetX509AuthorityStateRequest, wire.GetX509AuthorityStateResponse),
    prepare: row('PrepareX509Authority', wire.PrepareX509AuthorityRequest, wire.PrepareX509AuthorityResponse),
    activate: row('ActivateX509Authority', wire.ActivateX509AuthorityRequest, wire.ActivateX509AuthorityResponse),
    taint: row('TaintX509Authority', wire.TaintX509AuthorityRequest, wire.TaintX509AuthorityResponse),
    revoke: row('RevokeX509Authority', wire.RevokeX509AuthorityRequest, wire.RevokeX509AuthorityResponse),
  },
  upstream: {
    taint: row(
      'TaintX509UpstreamAuthority',
      wire.TaintX509UpstreamAuthorityRequest,
      wire.TaintX509UpstreamAuthorityResponse,
    ),
    revoke: row(
      'RevokeX509UpstreamAuthority',
      wire.RevokeX509UpstreamAuthorityRequest,
      wire.RevokeX509UpstreamAuthorityResponse,
    ),
  },
}

type Kind = 'jwt' | 'x509'
type State = wire.AuthorityState

const NAMES = { jwt: 'JWT authority', x509: 'X.509 authority' } as const

/** `localauthority <kind> show`: the three slots of a kind of key. */
function show(kind: Kind): Command {
  return serverCommand({
    name: `localauthority ${kind} show`,
    flags: {},
    async run(_flags, { api, print, stdout }) {
      const call = api.call(methods[kind].show, {})
      // SPIRE explains the failure for one kind only.
      const states = await (kind === 'jwt' ? call : explained('could not get X.509 authorities', call))
      print(states, () => {
        const slot = (title: string, state: State | undefined): string =>
          `${title} ${NAMES[kind]}:\n${state === undefined ? `  No ${title.toLowerCase()} ${NAMES[kind]} found\n` : stateText(kind, state)}`
        const { active, prepared, old } = states
        stdout([slot('Active', active), slot('Prepared', prepared), slot('Old', old)].join('\n'))
      })
    },
  })
}

/** `localauthority <kind> prepare`: a new key for the next slot. */
function prepare(kind: Kind): Command {
  return serverCommand({
    name: `localauthority ${kind} prepare`,
    flags: {},
    async run(_flags, { api, print, stdout }) {
      const call = api.call(methods[kind].prepare, {})
      const response = await explained(`could not prepare ${NAMES[kind]}`, call)
      print(response, () =>
        stdout(`Prepared ${NAMES[kind]}:\n${required(kind, 'prepared', response.preparedAuthority)}`),
      )
    },
  })
}

const ACTIONS = {
  activate: { done: 'Activated', help: (kind: string) => `The authority ID of the ${kind} to activate` },
  taint: { done: 'Tainted', help: (kind: string) => `The authority ID of the ${kind} to taint` },
  revoke: { done: 'Revoked', help: (kind: string) => `The authority ID of the ${kind} to revoke` },
} as const

/** `localauthority <kind> activate`, `taint` and `revoke`. */
function act(kind: Kind, action: keyof typeof ACTIONS): Command {
  const { done, help } = ACTIONS[action]
  return serverCommand({
    name: `localauthority ${kind} ${action}`,
    flags: { authorityID: text(help(NAMES[kind])) },
    async run(flags, { api, print, stdout }) {
      if (flags.authorityID === '') throw new CommandError('an authority ID is required')
      const response = await explained(
        `could not ${action} ${NAMES[kind]}`,
        change(api, kind, action, flags.authorityID),
      )
      const state = Object.values(response)[0] as State | undefined
      print(response, () => stdout(`${done} ${NAMES[kind]}:\n${required(kind, done.toLowerCase(), state)}`))
    },
  })
}

/** Sends a change of one key; the response has the key's state as its only member. */
function change(api: ApiClient, kind: Kind, action: keyof typeof ACTIONS, authorityId: string): Promise<object> {
  const method = methods[kind][action] as ClientMethod<{ authorityId: string }, object>
  return api.call(method, { authorityId })
}

const UPSTREAM_HELP = "The X.509 Subject Key Identifier (or SKID) of the authority's CA certificate of the"

/** `upstreamauthority taint` and `revoke`. */
function upstream(action: 'taint' | 'revoke'): Command {
  const which = action === 'taint' ? 'upstream X.509 authority to taint' : 'X.509 upstream authority to revoke'
  return serverCommand({
    name: `upstreamauthority ${action}`,
    flags: { subjectKeyID: text(`${UPSTREAM_HELP} ${which}`) },
    async run(flags, { api, print, stdout }) {
      const subjectKeyId = flags.subjectKeyID
      if (subjectKeyId === '') {
        throw new CommandError('the Subject Key ID of the X.509 upstream authority is required')
      }
      const method: ClientMethod<{ subjectKeyId: string }, { upstreamAuthoritySubjectKeyId: string }> =
        methods.upstream[action]
      const call = api.call(method, { subjectKeyId })
      const response = await explained(`could not ${action} X.509 upstream authority`, call)
      print(response, ({ upstreamAuthoritySubjectKeyId: id }) =>
        stdout(`${ACTIONS[action].done} X.509 upstream authority:\n  Subject Key ID: ${id}\n`),
      )
    },
  })
}

function required(kind: Kind, done: string, state: State | undefined): string {
  if (state !== undefined) return stateText(kind, state)
  throw new CommandError(`internal error: expected to have ${done} ${NAMES[kind]} information`)
}

function stateText(kind: Kind, state: State): string {
  const own = `  Authority ID: ${state.authorityId}\n  Expires at: ${utcTimeText(state.expiresAt)}\n`
  if (kind === 'jwt') return own
  const id = state.upstreamAuthoritySubjectKeyId
  return id === ''
    ? `${own}  Upstream authority ID: No upstream authority\n`
    : `${own}  Upstream authority Subject Key ID: ${id}\n`
}

/** All commands on authorities, by their words. */
export const authorities = {
  'localauthority jwt activate': act('jwt', 'activate'),
  'localauthority jwt prepare': prepare('jwt'),
  'localauthority jwt revoke': act('jwt', 'revoke'),
  'localauthority jwt show': show('jwt'),
  'localauthority jwt taint': act('jwt', 'taint'),
  'localauthority x509 activate': act('x509', 'activate'),
  'localauthority x509 prepare': prepare('x509'),
  'localauthority x509 revoke': act('x509', 'revoke'),
  'localauthority x509 show': show('x509'),
  'localauthority x509 taint': act('x509', 'taint'),
  'upstreamauthority revoke': upstream('revoke'),
  'upstreamauthority taint': upstream('taint'),
} as const satisfies Record<string, Command>
