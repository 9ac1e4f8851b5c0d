import type { ListAgentsRequest_Filter } from '../../../proto/spire/api/server/agent/v1.ts'
import { complaining, type IdMessage, idMessage, MATCH_BEHAVIORS, selectorMessage } from '../arguments.ts'
import { CommandError } from '../failure.ts'
import { type FlagTable, type FlagValues, text, texts, triState } from '../flags.ts'

const MATCH_HELP = 'The match mode used when filtering by selectors. Options: exact, any, superset and subset'
const LAYOUT = '2006-01-02 15:04:05 -0700 -07'

/** The filters of `agent list` and `agent count`. */
export const AGENT_FILTER_FLAGS = {
  selector: texts('A colon-delimited type:value selector. Can be used more than once'),
  attestationType: text('Filter by attestation type, like join_token or x509pop.'),
  canReattest: triState(
    "Filter based on string received, 'true': agents that can reattest, 'false': agents that can't reattest, other value will return all.",
  ),
  banned: triState(
    "Filter based on string received, 'true': banned agents, 'false': not banned agents, other value will return all.",
  ),
  expiresBefore: text(`Filter by expiration time (format: "${LAYOUT}")`),
  matchSelectorsOn: text(MATCH_HELP, 'superset'),
} as const satisfies FlagTable

/**
 * Makes the filter that the flags describe.
 * @throws CommandError in the order SPIRE checks
 */
export function agentFilter(flags: FlagValues<typeof AGENT_FILTER_FLAGS>): ListAgentsRequest_Filter {
  let bySelectorMatch: ListAgentsRequest_Filter['bySelectorMatch']
  if (flags.selector.length > 0) {
    const match = Object.hasOwn(MATCH_BEHAVIORS, flags.matchSelectorsOn)
      ? MATCH_BEHAVIORS[flags.matchSelectorsOn]
      : undefined
    if (match === undefined) throw new CommandError('unsupported match behavior')
    const selectors = flags.selector.map((given) =>
      complaining(`error parsing selector ${JSON.stringify(given)}`, () => selectorMessage(given)),
    )
    bySelectorMatch = { match, selectors }
  }
  if (flags.expiresBefore !== '') complaining('date is not valid', () => requireTime(flags.expiresBefore))
  return {
    byAttestationType: flags.attestationType,
    bySelectorMatch,
    byBanned: flags.banned,
    byCanReattest: flags.canReattest,
    byExpiresBefore: flags.expiresBefore,
  }
}

/** Reads the ID of `-spiffeID`, which the commands on one agent need. */
export function requiredAgentId(text: string): IdMessage {
  if (text === '') throw new CommandError('a SPIFFE ID is required')
  return idMessage(text)
}

/** The parts of the layout: what matches, what Go calls it, and its limits for Go's "out of range". */
const TIME_PARTS: readonly (readonly [pattern: RegExp, name: string, range?: readonly [string, number, number]])[] = [
  [/^\d{4}/, '2006'],
  [/^-/, '-'],
  [/^\d\d/, '01', ['month', 1, 12]],
  [/^-/, '-'],
  [/^\d\d/, '02', ['day', 1, 31]],
  [/^ *\d\d/, '15', ['hour', 0, 23]],
  [/^:/, ':'],
  [/^\d\d/, '04', ['minute', 0, 59]],
  [/^:/, ':'],
  [/^\d\d(\.\d+)?/, '05', ['second', 0, 59]],
  [/^ *[+-]\d{4}/, '-0700'],
  [/^ *[+-]\d\d/, '-07'],
]

/** Checks a moment against SPIRE's layout, with the complaints of Go's `time.Parse`. */
function requireTime(value: string): void {
  let rest = value
  for (const [pattern, name, range] of TIME_PARTS) {
    const part = pattern.exec(rest)
    if (part === null) {
      const place = `cannot parse ${JSON.stringify(rest.trimStart())} as ${JSON.stringify(name)}`
      throw new CommandError(`parsing time ${JSON.stringify(value)} as ${JSON.stringify(LAYOUT)}: ${place}`)
    }
    const number = Math.trunc(Number(part[0]))
    if (range !== undefined && (number < range[1] || number > range[2])) {
      throw new CommandError(`parsing time ${JSON.stringify(value)}: ${range[0]} out of range`)
    }
    rest = rest.slice(part[0].length)
  }
  if (rest !== '') throw new CommandError(`parsing time ${JSON.stringify(value)}: extra text: ${JSON.stringify(rest)}`)
}
